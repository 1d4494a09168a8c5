"""How far a model's word can be relied on: what validation episodes say of its probabilities."""
