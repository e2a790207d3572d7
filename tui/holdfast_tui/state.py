"""What one person's screens looked like: kept over a dropped line and until tomorrow.

<state directory>/tui/UID.json, replaced in one step; kept in memory only when nothing may be
written. Whatever cannot be read is forgotten: nothing here is worth a complaint.
"""

import json
import os
from typing import Any, Final

from holdfast.errors import HoldfastError
from holdfast.host import files
from holdfast.jobs.journal import make_directories
from holdfast.units import KIB

_BYTES_MAX: Final = 256 * KIB


class ViewState:
    """A small dictionary of JSON values by dotted names, such as `tasks.filter`."""

    def __init__(self, state_directory: str, *, is_writable: bool) -> None:
        self._path = os.path.join(state_directory, "tui", f"{os.geteuid()}.json")
        self._is_writable = is_writable
        self._values: dict[str, Any] = {}

    def load(self) -> None:
        """Read the file; call from a thread or before the app runs."""
        try:
            values = json.loads(files.read_file(self._path, size_max=_BYTES_MAX))
        except (OSError, ValueError, RecursionError, HoldfastError):
            return
        if isinstance(values, dict):
            self._values = values

    def text(self, name: str, default: str = "") -> str:
        value = self._values.get(name)
        return value if isinstance(value, str) else default

    def number(self, name: str) -> float:
        value = self._values.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

    def texts(self, name: str) -> list[str]:
        value = self._values.get(name)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    def set(self, name: str, value: str | float | list[str] | None) -> None:
        """Remember until the next save; None forgets."""
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value

    def save(self) -> None:
        """Write the file, if that is allowed and possible."""
        if not self._is_writable:
            return
        data = json.dumps(self._values).encode()
        if len(data) > _BYTES_MAX:
            return
        try:
            make_directories(os.path.dirname(self._path))
            files.replace_file(self._path, [data], mode=0o600)
        except (OSError, HoldfastError):
            return
