"""The engines, one folder per protocol, and the registry that names them."""
