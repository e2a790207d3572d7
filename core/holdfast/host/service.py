"""Talking to the service manager that started us (sd_notify); silent when nobody listens."""

import os
import socket
from contextlib import suppress


def notify(state: str) -> bool:
    """Send lines such as `READY=1` or `STATUS=...` to systemd; False when there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address[0] == "@":  # an abstract socket
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.sendall(state.encode())
        return True
    return False


def watchdog_s() -> float | None:
    """How often systemd wants to hear WATCHDOG=1, halved to be on time; None when it does not."""
    text = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 2_000_000
