"""Run a program and say how long it took and how large it grew."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KIB: Final = 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished program.

    Attributes:
        rss_bytes: resident memory of its largest process at the worst moment.
    """

    wall_s: float
    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Several runs of the same thing."""

    median_s: float
    spread_s: float
    cpu_s: float
    rss_bytes: int
    runs: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Figure":
        """Median and spread (largest less smallest) of the times, the largest memory."""
        walls = [run.wall_s for run in runs]
        return cls(
            median_s=statistics.median(walls),
            spread_s=max(walls) - min(walls),
            cpu_s=statistics.median(run.cpu_s for run in runs),
            rss_bytes=max(run.rss_bytes for run in runs),
            runs=len(runs),
        )


class ProgramFailed(Exception):
    """A measured program ended with another exit code than expected."""


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    accepted: Sequence[int] = (0,),
) -> Run:
    """Run `command` to its end, its output aside (ProgramFailed with the output's end).

    GNU time stands between, since a child of this process would be charged with our own memory: the
    kernel keeps what the process was before it became another program.
    """
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile("r") as usage:
        start_s = time.perf_counter()
        code = subprocess.run(
            ["/usr/bin/time", "--quiet", "-f", "%U %S %M", "-o", usage.name, *command],
            env={**os.environ, **env},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
        wall_s = time.perf_counter() - start_s
        if code not in accepted:
            output.seek(0)
            tail = output.read()[-2000:].decode(errors="replace")
            raise ProgramFailed(f"{' '.join(command)}: exit code {code}\n{tail}")
        user_s, system_s, rss_kib = usage.read().split()[-3:]
    return Run(wall_s=wall_s, cpu_s=float(user_s) + float(system_s), rss_bytes=int(rss_kib) * _KIB)
