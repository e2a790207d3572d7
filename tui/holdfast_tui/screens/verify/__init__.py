"""The view verify."""
