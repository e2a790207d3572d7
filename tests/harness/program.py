"""The `holdfast` program in a process of its own, with a home, configuration and state of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of the program gave."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def document(self) -> Any:  # JSON of many shapes
        return json.loads(self.out)

    @property
    def error(self) -> Any:  # JSON
        """The error of a failed run with --json."""
        return json.loads(self.err.strip().splitlines()[-1])["error"]


@dataclass(slots=True)
class Program:
    """Runs commands below one directory; nothing of the user's own is read or written."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HOLDFAST_", "XDG_", "COVERAGE", "PYTEST"))
        }
        self.environment = {
            **clean,
            "PYTHONPATH": f"{ROOT / 'core'}:{ROOT / 'tui'}",
            "HOME": str(self.home),
            "HOLDFAST_CONFIG": str(self.home / "config.toml"),
            "HOLDFAST_STATE_DIR": str(self.home / "state"),
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
            **self.environment,
        }

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-X", "dev", "-W", "error", "-m", "holdfast"]

    def run(
        self,
        *words: str | Path,
        code: int | None = 0,
        stdin: bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> Result:
        """Run `holdfast WORDS`; fails when it ends with another code than `code` (None: any)."""
        done = subprocess.run(
            [*self.command, *(str(word) for word in words)],
            env={**self.environment, **(env or {})},
            cwd=self.home,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
            timeout=240,
        )
        result = Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
        assert "Traceback" not in result.err, result.err
        if code is not None:
            assert result.code == code, (words, result.code, result.err, result.out[-2000:])
        return result

    def peak_memory(self, *words: str | Path) -> int:
        """Run `holdfast WORDS` and give the most memory one of its processes held, in KiB.

        A process of its own looks on: the figure of a child begins with the size of its parent.
        """
        watched = (
            "import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[1:], stdout=sys.stderr, check=True)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", watched, *self.command, *(str(word) for word in words)],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            timeout=240,
        )
        return int(done.stdout)

    def json(self, *words: str | Path, code: int = 0) -> Any:  # JSON of many shapes
        """The JSON document of `holdfast --json WORDS`."""
        return self.run(*words, "--json", code=code).document
