"""How long the phases of the last good run of the same work were: what a tree will hold is not
known before it is walked, but it is seldom far from last time.

    <state directory>/history/TYPE-TARGET.json   {"phase": items, ...}

Only a hint: anything odd in the file counts as nothing known, and a run that goes beyond the number
of last time has no expectation any more.
"""

import json
import os
from collections.abc import Mapping
from typing import Final

from holdfast.errors import HoldfastError
from holdfast.host import files
from holdfast.jobs.journal import make_directories
from holdfast.units import KIB
from holdfast.upid import Upid, escape

_BYTES_MAX: Final = 64 * KIB
_PHASES_MAX: Final = 100


def path_of(state_directory: str, upid: Upid) -> str:
    """Where runs of this kind on this target are remembered."""
    name = f"{upid.worker_type}-{escape(upid.worker_id)}.json"
    return os.path.join(state_directory, "history", name)


def read(path: str) -> dict[str, int]:
    """Items per phase; empty when nothing is known."""
    try:
        values = json.loads(files.read_file(path, size_max=_BYTES_MAX))
    except (OSError, ValueError, RecursionError, HoldfastError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {
        name: count
        for name, count in values.items()
        if isinstance(count, int) and not isinstance(count, bool) and count > 0
    }


def write(path: str, items: Mapping[str, int]) -> None:
    """Remember a run (OSError)."""
    make_directories(os.path.dirname(path))
    kept = dict(list(items.items())[:_PHASES_MAX])
    files.replace_file(path, [json.dumps(kept).encode()])
