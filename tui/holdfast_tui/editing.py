"""The configuration in $EDITOR: a copy is edited, checked, and only then put in place."""

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Final

from holdfast.config import toml_source
from holdfast.config.settings import Settings
from holdfast.errors import HoldfastError, Refused
from holdfast.host import files
from holdfast.units import MIB

_BYTES_MAX: Final = 4 * MIB
_KNOW_LINES: Final = ("vi", "vim", "nvim", "nano", "emacs", "micro", "joe", "mcedit", "ne")
TEMPLATE: Final = """
[jobs.{name}]
kind = "{kind}"
{store}{sources}schedule = "daily"
"""


@dataclass(slots=True)
class Draft:
    """A copy that is being edited.

    Attributes:
        config: what it is a copy of.
        before: its bytes when the copy was made; empty when there was none.
        path: the copy.
        line: where the editor should begin.
    """

    config: str
    before: bytes
    path: str
    line: int

    @classmethod
    def begin(cls, config: str, *, at: str = "", added: str = "") -> "Draft":
        """Copy the configuration (HoldfastError, OSError).

        Args:
            config: its path; need not exist.
            at: a line to look for, such as `[jobs.nightly]`.
            added: text to put at its end.
        """
        try:
            before = files.read_file(config, size_max=_BYTES_MAX)
        except FileNotFoundError:
            before = b""
        text = before + added.encode()
        directory = tempfile.mkdtemp(prefix="holdfast-edit-")
        path = os.path.join(directory, "config.toml")
        files.replace_file(path, [text], mode=0o600)
        wanted = at.encode()
        lines = text.split(b"\n")
        found = next((n for n, line in enumerate(lines, 1) if at and line.strip() == wanted), 1)
        return cls(config, before, path, found)

    def command(self) -> list[str]:
        """The editor's words (Refused when there is no editor)."""
        chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
        words = (
            shlex.split(chosen)
            or [name for name in ("nano", "vim", "vi") if shutil.which(name)][:1]
        )
        if not words or shutil.which(words[0]) is None:
            raise Refused(
                f"the editor {words[0]!r} is not there" if words else "there is no editor here",
                hint="set EDITOR to one",
            )
        if os.path.basename(words[0]) in _KNOW_LINES:
            words.append(f"+{self.line}")
        return [*words, self.path]

    def edit(self) -> int:
        """Run the editor in the terminal that the app has given up; its exit code."""
        return subprocess.run(self.command(), check=False).returncode

    @property
    def is_changed(self) -> bool:
        return self.after() != self.before

    def after(self) -> bytes:
        return files.read_file(self.path, size_max=_BYTES_MAX)

    def check(self) -> None:
        """Complain about mistakes, with the line (BadRequest)."""
        Settings.parse(toml_source.read(self.path))

    def complaint(self) -> str:
        """What is wrong with it in one sentence; empty when nothing is."""
        try:
            self.check()
        except HoldfastError as error:
            text = str(error).replace(self.path, os.path.basename(self.config))
            return f"{text} ({error.hint})" if error.hint else text
        return ""

    def put_in_place(self) -> None:
        """Replace the configuration by the copy, in one step.

        Raises:
            Refused: somebody else changed it meanwhile.
            HoldfastError: it cannot be written.
        """
        with files.explained(f"writing {self.config}"):
            try:
                now = files.read_file(self.config, size_max=_BYTES_MAX)
                mode = os.stat(self.config).st_mode & 0o777
            except FileNotFoundError:
                now, mode = b"", 0o644
            if now != self.before:
                raise Refused(
                    f"{self.config} was changed by somebody else meanwhile",
                    hint=f"your version is in {self.path}",
                )
            os.makedirs(os.path.dirname(self.config) or ".", exist_ok=True)
            files.replace_file(self.config, [self.after()], mode=mode, sync=True)
        self.throw_away()

    def throw_away(self) -> None:
        """Remove the copy."""
        shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)
