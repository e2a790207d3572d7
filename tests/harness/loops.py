"""Files as block devices, for whoever may make them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which


def are_possible() -> bool:
    """Root on a machine that has loop devices."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and which("losetup") is not None


@contextmanager
def device_of(file: Path) -> Iterator[Path]:
    """A block device with the content of `file`, as large; what is written is in the file afterwards."""
    made = subprocess.run(
        ["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=True
    )
    device = made.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
