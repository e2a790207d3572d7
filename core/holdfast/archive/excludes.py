"""The patterns in force at one point of a walk: the command line's and those of `.pxarexclude`."""

from collections.abc import Iterable

from holdfast.archive.patterns import (
    EXCLUDE_FILE_BYTES_MAX,
    Match,
    PatternList,
    parse_arguments,
    parse_exclude_file,
)
from holdfast.archive.walk_rules import EXCLUDE_FILE
from holdfast.errors import DamagedData
from holdfast.host import files


class ExcludeRules:
    """Grows when a walk enters a directory with an exclude file, and shrinks when it leaves."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = PatternList(parse_arguments(patterns))
        self._before: list[tuple[int, int]] = []  # (depth, patterns outside of that directory)

    @property
    def active(self) -> bool:
        return bool(len(self._patterns))

    def enter(self, path: bytes, dir_fd: int, depth: int) -> list[str]:
        """Obey the exclude file of the directory at `path`; what is wrong with it."""
        try:
            data = files.read_file(EXCLUDE_FILE, size_max=EXCLUDE_FILE_BYTES_MAX, dir_fd=dir_fd)
        except (OSError, DamagedData) as error:
            return [f"its patterns are ignored: {error}"]
        parsed = parse_exclude_file(data, path.removesuffix(b"/"))
        self._before.append((depth, self._patterns.extend(parsed.patterns)))
        return [f"pattern ignored: {problem}" for problem in parsed.problems]

    def leave(self, depth: int) -> None:
        """Forget what directories below `depth` brought in."""
        while self._before and self._before[-1][0] > depth:
            self._patterns.truncate(self._before.pop()[1])

    def is_excluded(self, path: bytes, *, is_dir: bool) -> bool:
        """Whether the entry at `path`, which begins with a slash, is to be left out."""
        return self._patterns.match(path, is_dir=is_dir) is Match.EXCLUDE
