"""Sends runs to the programs in which people watch them, such as TensorBoard and MLflow."""
