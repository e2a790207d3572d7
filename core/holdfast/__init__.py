"""Holdfast: deduplicating backups in the Proxmox Backup Server datastore format."""

__version__ = "0.1.0"
