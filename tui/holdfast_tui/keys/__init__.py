"""The tables of keys, one module for each view; keymap.py puts them together."""
