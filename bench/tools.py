"""The programs that are compared: how each one does the same six things."""

import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench import measure
from bench.measure import Run

ROOT = Path(__file__).resolve().parents[1]


class Tool(ABC):
    """One backup program with its repository in an empty directory of ours."""

    name: ClassVar[str]

    def __init__(self, work: Path) -> None:
        self.repository = work / f"{self.name}-repository"
        self.home = work / f"{self.name}-home"

    def start_over(self) -> None:
        """A new, empty repository and no caches from before; not measured."""
        for path in (self.repository, self.home):
            shutil.rmtree(path, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.make_repository()

    def run(self, *command: str, cwd: Path | None = None) -> Run:
        return measure.run(command, env=self.environment, cwd=cwd)

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]: ...
    @abstractmethod
    def version(self) -> str: ...
    @abstractmethod
    def make_repository(self) -> None: ...
    @abstractmethod
    def backup(self, source: Path) -> Run: ...
    @abstractmethod
    def restore(self, target: Path) -> Run: ...
    @abstractmethod
    def verify(self) -> Run: ...
    @abstractmethod
    def gc(self) -> Run: ...

    def repository_bytes(self) -> int:
        """What the repository takes on the disk, in blocks."""
        result = subprocess.run(
            ["du", "-s", "--block-size=1", str(self.repository)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(result.stdout.split()[0])


def _first_line(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.strip().splitlines()[0]


class Holdfast(Tool):
    """This project, from this checkout."""

    name = "holdfast"
    _is_tree = True

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "PYTHONPATH": f"{ROOT / 'core'}:{ROOT / 'tui'}",
            "HOLDFAST_STORE": str(self.repository),
            "HOLDFAST_CONFIG": str(self.home / "config.toml"),
            "HOLDFAST_STATE_DIR": str(self.home / "state"),
        }

    def holdfast(self, *words: str) -> Run:
        return self.run(sys.executable, "-m", "holdfast", "-q", *words)

    def version(self) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "holdfast", "version"],
            env={**self.environment, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.strip()

    def make_repository(self) -> None:
        self.holdfast("init", str(self.repository))

    def backup(self, source: Path) -> Run:
        self._is_tree = source.is_dir()
        archive = "tree.pxar" if self._is_tree else "image.img"
        return self.holdfast("backup", f"{archive}:{source}", "--id", "bench")

    def restore(self, target: Path) -> Run:
        if self._is_tree:
            return self.holdfast("restore", "host/bench", str(target))
        image = str(target / "image.img")
        return self.holdfast("restore", "host/bench", image, "--archive", "image.img")

    def verify(self) -> Run:
        return self.holdfast("verify")

    def gc(self) -> Run:
        return self.holdfast("gc")

    def start_up(self) -> Run:
        """`holdfast version`, as a person would wait for it."""
        return self.run(sys.executable, "-m", "holdfast", "version")


class Restic(Tool):
    """restic, compression auto (its default level), a password as it insists on one."""

    name = "restic"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self.home),
        }

    def version(self) -> str:
        return " ".join(_first_line("restic", "version").split()[:2])

    def make_repository(self) -> None:
        self.run("restic", "init", "--repository-version", "2")

    def backup(self, source: Path) -> Run:
        return self.run("restic", "backup", "--quiet", "--compression", "auto", str(source))

    def restore(self, target: Path) -> Run:
        return self.run("restic", "restore", "--quiet", "latest", "--target", str(target))

    def verify(self) -> Run:
        return self.run("restic", "check", "--quiet", "--read-data")

    def gc(self) -> Run:
        return self.run("restic", "prune", "--quiet")


class Borg(Tool):
    """borg, without encryption, zstd level 1."""

    name = "borg"
    _archives = 0

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "BORG_REPO": str(self.repository),
            "BORG_BASE_DIR": str(self.home),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def version(self) -> str:
        return _first_line("borg", "--version")

    def make_repository(self) -> None:
        self._archives = 0
        self.run("borg", "init", "--encryption", "none")

    def backup(self, source: Path) -> Run:
        self._archives += 1
        name = f"::a{self._archives}"
        return self.run("borg", "create", "--compression", "zstd,1", name, str(source))

    def restore(self, target: Path) -> Run:
        target.mkdir(parents=True, exist_ok=True)
        return self.run("borg", "extract", "--sparse", "::a1", cwd=target)

    def verify(self) -> Run:
        return self.run("borg", "check", "--verify-data")

    def gc(self) -> Run:
        return self.run("borg", "compact")


TOOLS: tuple[type[Tool], ...] = (Holdfast, Restic, Borg)
