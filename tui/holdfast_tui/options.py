"""What the terminal UI was started with."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, completed.

    Attributes:
        store: a name or path; None for all configured ones.
        named: global options that a person would have to type as well.
        read_only: why nothing may be changed; empty when it may.
        theme: asked for; empty for the best one this terminal can show.
        ascii: only ASCII letters.
        slow: a slow line.
    """

    config: str
    state_dir: str
    store: str | None = None
    ns: str = ""
    keyfile: str | None = None
    read_only: str = ""
    no_content: bool = False
    theme: str = ""
    ascii: bool = False
    slow: bool = False
    no_color: bool = False
    default_config: str = ""
    default_state_dir: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def words(self, store: str | None, command: Sequence[str]) -> list[str]:
        """Words after `holdfast` that run `command` as this run would."""
        words = ["--config", self.config, "--state-dir", self.state_dir]
        if store:
            words += ["--store", store]
        if self.keyfile:
            words += ["--keyfile", self.keyfile]
        return [*words, *command]

    def twin(self, store: str | None, command: Sequence[str]) -> str:
        """The same for a person: what is so by default is left out."""
        words = ["holdfast"]
        if self.config != self.default_config:
            words += ["--config", self.config]
        if self.state_dir != self.default_state_dir:
            words += ["--state-dir", self.state_dir]
        if store:
            words += ["--store", store]
        if self.keyfile:
            words += ["--keyfile", self.keyfile]
        return " ".join(map(_shell_word, [*words, *command]))


def _shell_word(word: str) -> str:
    """A word as a shell reads it: printable, whatever bytes are in it."""
    if word.isprintable():
        return shlex.quote(word)
    pieces = []
    for byte in word.encode("utf-8", "surrogateescape"):
        char = chr(byte)
        is_plain = byte < 127 and char.isprintable() and char not in "\\'"  # noqa: PLR2004  # ASCII
        pieces.append(char if is_plain else f"\\x{byte:02x}")
    return f"$'{''.join(pieces)}'"
