"""Networks as functions of named parameters, and the registry that names them."""
