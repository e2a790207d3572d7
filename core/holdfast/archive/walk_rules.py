"""Which parts of a tree belong to a backup: what a walk is told, known before a walk is loaded."""

from typing import Final, NamedTuple

EXCLUDE_FILE: Final = b".pxarexclude"
EXCLUDE_FILE_CLI: Final = b".pxarexclude-cli"


class WalkRules(NamedTuple):
    """Which parts of a tree belong to the backup.

    Attributes:
        patterns: exclude patterns of the command line, in order.
        all_file_systems: go into everything that is mounted below, except virtual file systems.
    """

    patterns: tuple[bytes, ...] = ()
    all_file_systems: bool = False
