"""Waiting for processes that are no children of the test's."""

import os
import select


def has_ended(pid: int, *, within_s: float = 30) -> bool:
    """Whether process `pid` ends within the time; a zombie that nobody collects has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)
