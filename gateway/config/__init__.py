"""The configuration: TOML read into models, and errors that name the place."""
