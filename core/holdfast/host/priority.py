"""How much of the processor and the disks this process asks for."""

import ctypes
import os
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


def be_nice(level: int) -> None:
    """Leave the processor to others at least as readily as `level` (0..19) says (OSError)."""
    os.nice(max(0, level - os.nice(0)))


def set_io_class(io_class: IoClass) -> bool:
    """Ask for less of the disks; threads started later inherit it. False when the kernel refuses."""
    value = _IO_VALUES.get(io_class)
    call = _IOPRIO_SET.get(os.uname().machine)
    if value is None or call is None:
        return value is None
    answer: int = ctypes.CDLL(None, use_errno=True).syscall(call, _WHO_PROCESS, 0, value)
    return answer == 0
