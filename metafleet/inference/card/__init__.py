"""The card of a model: a README.md for people and for the Hugging Face Hub."""
