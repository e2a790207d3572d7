"""Configuration: TOML to typed settings."""
