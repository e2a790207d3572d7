"""What a restore may do to what is there already, and what it did."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.archive.patterns import Pattern
from holdfast.archive.restore_without import Without


class Overwrite(enum.Enum):
    """How a restore treats an entry that is there already and differs.

    FRESH wants a new or empty target. Whatever the rule: an identical entry is left as it is, a
    directory is never replaced by something else, and one directory is merged into another.
    """

    FRESH = "fresh"
    NEVER = "never"
    IF_NEWER = "if-newer"
    KEEP_BOTH = "keep-both"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRules:
    """What to restore, and how.

    Attributes:
        overwrite: see Overwrite.
        patterns: paths to take in (or, with `!`, to leave out); none means everything.
        paths: exact ones, without a leading slash, that are taken in (True) or left out again; each
            counts for everything below it, and before any pattern.
        without: what of each entry is left out.
        dry_run: say what would happen, change nothing.
    """

    overwrite: Overwrite = Overwrite.FRESH
    patterns: tuple[Pattern, ...] = ()
    paths: Mapping[bytes, bool] = field(default_factory=dict)
    without: Without = Without.NOTHING
    dry_run: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether only some of the archive is wanted."""
        return bool(self.patterns or self.paths)


@dataclass(slots=True)
class RestoreOutcome:
    """What a restore did; with `dry_run`, what it would do.

    Attributes:
        files: regular files written, hard links among them.
        directories, others: made, or for directories merged into.
        content_bytes: content written.
        identical: entries that were there already, the same.
        replaced: of the files and others, those that took the place of something else.
        skipped: paths left as they were because the rule says so, or that cannot be restored.
        conflicts: paths that differ and were not touched, or restored under another name.
        damaged: paths whose content cannot be read from the store.
        warnings: one sentence each.
    """

    files: int = 0
    directories: int = 0
    others: int = 0
    content_bytes: int = 0
    identical: int = 0
    replaced: int = 0
    skipped: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: "RestoreOutcome") -> None:
        """Count what another part of the restore did, too."""
        self.files += other.files
        self.directories += other.directories
        self.others += other.others
        self.content_bytes += other.content_bytes
        self.identical += other.identical
        self.replaced += other.replaced
        self.skipped += other.skipped
        self.conflicts += other.conflicts
        self.damaged += other.damaged
        self.warnings += other.warnings

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was taken in."""
        counts = self.files + self.directories + self.others + self.identical
        return not (counts or self.skipped or self.conflicts or self.damaged)
