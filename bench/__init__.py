"""Measurements: each script states its question, corpus and seed."""
