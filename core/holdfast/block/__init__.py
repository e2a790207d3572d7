"""Disks of running machines."""
