"""An experiment's configuration: TOML in, one checked and frozen value out."""
