"""How much of the processor and the disks this process asks for."""

import os
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_WHO_PROCESS: Final = 1
_CLASS_SHIFT: Final = 13


class IoClass(StrEnum):
    """When the disk serves this process: as usual, after others, or when nobody else wants it."""

    NORMAL = "normal"
    LOW = "low"
    IDLE = "idle"


_IO_VALUES: Final = {IoClass.LOW: 2 << _CLASS_SHIFT | 7, IoClass.IDLE: 3 << _CLASS_SHIFT}


def be_nice(level: int, beside: Iterable[int] = ()) -> None:
    """Leave the processor to others at least as readily as `level` (0..19) says (OSError).

    `beside` are processes of ours, started before, which get the same.
    """
    mine = os.nice(max(0, level - os.nice(0)))
    for pid in beside:
        os.setpriority(os.PRIO_PROCESS, pid, mine)


def set_io_class(io_class: IoClass, beside: Iterable[int] = ()) -> bool:
    """Ask for less of the disks, also for the processes `beside`; False when the kernel refuses.

    Threads started later inherit it.
    """
    value = _IO_VALUES.get(io_class)
    call = _IOPRIO_SET.get(os.uname().machine)
    if value is None or call is None:
        return value is None
    import ctypes

    kernel = ctypes.CDLL(None, use_errno=True)
    answers = [kernel.syscall(call, _WHO_PROCESS, pid, value) for pid in (0, *beside)]
    return all(answer == 0 for answer in answers)
