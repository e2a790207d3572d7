"""Deduplicated storage in the Proxmox Backup Server format; knows nothing of files or disks."""
