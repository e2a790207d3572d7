"""Modal questions and lists."""
