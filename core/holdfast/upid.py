"""UPID: the name of one task, unique on its host.

`UPID:NODE:PID:PSTART:TASKID:STARTTIME:WTYPE:WID:AUTHID:`, numbers in upper-case hex of at least
eight digits, WID escaped like a systemd unit name. Source: Proxmox Backup, task log format.
"""

import itertools
import os
import re
import time
from dataclasses import dataclass
from typing import Final, Self

from holdfast.errors import BadRequest
from holdfast.host import process

_PATTERN: Final = re.compile(
    r"UPID:([a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9})"
    r":([0-9A-Fa-f]{8,16}):([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):"
)
_PLAIN: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_.")
_counter = itertools.count()


def escape(text: str) -> str:
    r"""Unit-name escape: `/` becomes `-`, other odd bytes `\xNN`."""
    out = []
    for position, byte in enumerate(text.encode()):
        if byte == ord("/"):
            out.append("-")
        elif byte in _PLAIN and not (position == 0 and byte == ord(".")):
            out.append(chr(byte))
        else:
            out.append(f"\\x{byte:02x}")
    return "".join(out)


def unescape(text: str) -> str:
    r"""The reverse of escape; BadRequest for a broken `\xNN` or bytes that are not UTF-8."""
    raw = bytearray()
    position = 0
    while position < len(text):
        letter = text[position]
        if letter == "\\":
            code = text[position + 2 : position + 4]
            if text[position + 1 : position + 2] != "x" or not re.fullmatch("[0-9a-fA-F]{2}", code):
                raise BadRequest(f"{text!r} has a broken escape")
            raw.append(int(code, 16))
            position += 4
            continue
        raw += b"/" if letter == "-" else letter.encode()
        position += 1
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{text!r} does not unescape to UTF-8") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Upid:
    """Who runs (or ran) what, since when."""

    node: str
    pid: int
    pstart: int
    task_id: int
    start_s: int
    worker_type: str
    worker_id: str
    auth_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a UPID; BadRequest when it is none."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise BadRequest(f"{text!r} is no task name (UPID)")
        node, pid, pstart, task_id, start, worker_type, worker_id, auth_id = match.groups()
        return cls(
            node=node,
            pid=int(pid, 16),
            pstart=int(pstart, 16),
            task_id=int(task_id, 16),
            start_s=int(start, 16),
            worker_type=worker_type,
            worker_id=unescape(worker_id),
            auth_id=auth_id,
        )

    @classmethod
    def for_this_process(cls, worker_type: str, worker_id: str, auth_id: str | None = None) -> Self:
        """A new name for work that starts now, here."""
        return cls(
            node=process.node_name(),
            pid=os.getpid(),
            pstart=process.own_start_ticks(),
            task_id=next(_counter),
            start_s=int(time.time()),
            worker_type=worker_type,
            worker_id=worker_id,
            auth_id=auth_id or f"{process.user_name()}@pam",
        )

    @property
    def log_directory(self) -> str:
        """Low byte of PSTART, two upper-case hex digits: where Proxmox files the log."""
        return f"{self.pstart & 0xFF:02X}"

    def __str__(self) -> str:
        return (
            f"UPID:{self.node}:{self.pid:08X}:{self.pstart:08X}:{self.task_id:08X}"
            f":{self.start_s:08X}:{self.worker_type}:{escape(self.worker_id)}:{self.auth_id}:"
        )
