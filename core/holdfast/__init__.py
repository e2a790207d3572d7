"""Holdfast: deduplicating backups in the Proxmox Backup Server datastore format."""

from typing import Final

__version__: Final = "0.1.0"
