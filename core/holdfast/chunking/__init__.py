"""Bytes in, cut points out; no I/O."""
