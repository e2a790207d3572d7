"""The view restore."""
