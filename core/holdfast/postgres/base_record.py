"""`base.json` of a generation: the base backup its recovery starts from, and the WAL since then."""

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

from holdfast.host import files
from holdfast.postgres.wal_stage import Generation

NAME: Final = "base.json"
_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecord:
    """A base backup as the sync knows it.

    Attributes:
        snapshot: its name in the store.
        time_s: when it was taken.
        base_bytes: what it added to the store, compressed.
        wal_segments: segments carried to the store since then.
        wal_bytes: their size, compressed.
    """

    snapshot: str
    time_s: int
    base_bytes: int
    wal_segments: int = 0
    wal_bytes: int = 0

    @classmethod
    def read(cls, generation: Generation) -> Self | None:
        """The record of a generation; None before its first base backup (HoldfastError).

        A record that cannot be read counts as none: then a new base backup is taken.
        """
        path = os.path.join(generation.path, NAME)
        with files.explained(f"reading {path}"):
            try:
                data = files.read_file(path, size_max=_BYTES_MAX)
            except FileNotFoundError:
                return None
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError):
            return None

    def grown(self, *, segments: int, wal_bytes: int) -> Self:
        """The record after more WAL was carried."""
        return replace(
            self,
            wal_segments=self.wal_segments + segments,
            wal_bytes=self.wal_bytes + wal_bytes,
        )

    def write(self, generation: Generation) -> None:
        """Keep it (HoldfastError)."""
        path = os.path.join(generation.path, NAME)
        with files.explained(f"writing {path}"):
            files.replace_file(path, [json.dumps(asdict(self)).encode()], mode=0o600, sync=True)
