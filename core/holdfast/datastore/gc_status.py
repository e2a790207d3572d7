"""`.gc-status`: what the last garbage collection found; one line of JSON that Proxmox reads too.

{"upid":"UPID:...","index-file-count":n,"index-data-bytes":n,"disk-bytes":n,"disk-chunks":n,
 "removed-bytes":n,"removed-chunks":n,"pending-bytes":n,"pending-chunks":n,"removed-bad":n,
 "still-bad":n}; compact, mode 0644, replaced in one step. Unknown keys are ignored.
Source: Proxmox Backup Server, API type GarbageCollectionStatus.
"""

import json
import os
from dataclasses import dataclass, fields
from typing import Final, Self

from holdfast.errors import DamagedData, HoldfastError
from holdfast.host import files
from holdfast.units import KIB

FILE_NAME: Final = ".gc-status"
_BYTES_MAX: Final = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class GcStatus:
    """The counts of one garbage collection.

    Attributes:
        upid: the task that ran it; None when none ever did.
        index_file_count: index files marked.
        index_data_bytes: length of all streams and images, before deduplication.
        disk_bytes, disk_chunks: chunk files in use.
        removed_bytes, removed_chunks, removed_bad: deleted now; bytes include the bad ones.
        pending_bytes, pending_chunks, still_bad: unused, but too young to be deleted.
    """

    upid: str | None = None
    index_file_count: int = 0
    index_data_bytes: int = 0
    disk_bytes: int = 0
    disk_chunks: int = 0
    removed_bytes: int = 0
    removed_chunks: int = 0
    pending_bytes: int = 0
    pending_chunks: int = 0
    removed_bad: int = 0
    still_bad: int = 0

    @property
    def dedup_factor(self) -> float:
        """How often the stored bytes are used on average."""
        return self.index_data_bytes / self.disk_bytes if self.disk_bytes else 1.0

    def encode(self) -> bytes:
        record = {field.name.replace("_", "-"): getattr(self, field.name) for field in fields(self)}
        if self.upid is None:
            del record["upid"]
        return json.dumps(record, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the file's bytes (DamagedData)."""
        try:
            record = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DamagedData(FILE_NAME, "not JSON") from error
        if not isinstance(record, dict):
            raise DamagedData(FILE_NAME, "not a JSON object")
        counts: dict[str, int] = {}
        for field in fields(cls)[1:]:
            value = record.get(field.name.replace("_", "-"))
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise DamagedData(FILE_NAME, f"{field.name.replace('_', '-')} is no count")
            counts[field.name] = value
        upid = record.get("upid")
        return cls(upid=upid if isinstance(upid, str) else None, **counts)


def read_status(base: str) -> GcStatus | None:
    """The last status; None when there is none that can be read."""
    try:
        return GcStatus.decode(files.read_file(os.path.join(base, FILE_NAME), size_max=_BYTES_MAX))
    except (OSError, HoldfastError):
        return None


def write_status(base: str, status: GcStatus, *, owner: tuple[int, int] | None) -> None:
    """Replace the last status (HoldfastError)."""
    with files.explained(f"writing {FILE_NAME}"):
        files.replace_file(os.path.join(base, FILE_NAME), [status.encode()], owner=owner)
