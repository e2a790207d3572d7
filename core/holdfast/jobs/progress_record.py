"""What a task publishes about its progress: one small JSON file, replaced in one step.

    <state directory>/progress/UPID   {"phase": "...", "done_bytes": n, ..., "updated": seconds}

It is there while the task runs and goes when it ends. Readers take whatever is in it as hints: all
fields are checked, and a file that cannot be read is no progress.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from holdfast.errors import HoldfastError
from holdfast.host import files
from holdfast.units import KIB

_BYTES_MAX: Final = 64 * KIB
_ITEM_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRecord:
    """Amounts since the phase began; None is unknown.

    Attributes:
        expected_items: as many as last time; only while the total is not known.
        new_bytes: of the bytes done, how many were not in the store yet.
        rate: of `unit` per second, smoothed.
        waiting_for: why the work has not begun, empty once it has.
        updated: seconds since 1970.
    """

    phase: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    done_items: int = 0
    total_items: int | None = None
    expected_items: int | None = None
    new_bytes: int = 0
    rate: float | None = None
    eta_s: float | None = None
    item: str = ""
    warnings: int = 0
    waiting_for: str = ""
    updated: float = 0

    @property
    def unit(self) -> str:
        """What `done` and `rate` count: bytes, unless only items are counted."""
        return "bytes" if self.done_bytes or self.total_bytes else "items"

    @property
    def done(self) -> int:
        return self.done_bytes if self.unit == "bytes" else self.done_items

    @property
    def total(self) -> int | None:
        return self.total_bytes if self.unit == "bytes" else self.total_items

    @property
    def fraction(self) -> float | None:
        """0..1, by the total or by what is expected; None when neither is known."""
        if self.total:
            return min(1.0, self.done / self.total)
        return self.done_items / self.expected_items if self.expected_items else None

    @property
    def dedup_share(self) -> float | None:
        """Part of the bytes read so far that the store had already; None before any."""
        if not self.done_bytes:
            return None
        return max(0.0, 1 - self.new_bytes / self.done_bytes)

    def encode(self) -> bytes:
        return json.dumps(asdict(self) | {"item": self.item[-_ITEM_MAX:]}).encode()

    @classmethod
    def decode(cls, raw: bytes) -> "ProgressRecord | None":
        """Read what encode wrote; None for anything else."""
        try:
            values = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        if not isinstance(values, dict):
            return None
        good: dict[str, Any] = {}
        for field in fields(cls):
            value = values.get(field.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            wants_text = isinstance(field.default, str)
            if (isinstance(value, str) and wants_text) or (is_number and not wants_text):
                good[field.name] = value
        return cls(**good)


def read(path: str) -> ProgressRecord | None:
    """The progress in the file at `path`; None when there is none to be had."""
    try:
        return ProgressRecord.decode(files.read_file(path, size_max=_BYTES_MAX))
    except (OSError, HoldfastError):
        return None


def write(path: str, record: ProgressRecord) -> None:
    """Replace the file (OSError)."""
    files.replace_file(path, [record.encode()])
