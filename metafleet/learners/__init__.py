"""Meta-learning algorithms, and the registry that names them."""
