"""Snapshots of a store as rows, and what a whole store's worth of them adds up to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.datastore.manifest import CryptMode, VerifyResult
from holdfast.ids import GroupId, SnapshotId
from holdfast.units import DAY
from holdfast_tui.render.look import Mark

if TYPE_CHECKING:  # loading operations takes time that the first screen does not have
    from holdfast.operations.snapshots import SnapshotSummary

OUTDATED_S: Final = 30 * DAY


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One snapshot with what a list says of it."""

    summary: "SnapshotSummary"

    @property
    def snapshot(self) -> SnapshotId:
        return self.summary.snapshot

    @property
    def key(self) -> str:
        """Stable name within a store: namespace and snapshot."""
        return self.summary.snapshot.path

    @property
    def time_s(self) -> int:
        return self.summary.snapshot.time_s

    @property
    def verified_s(self) -> int | None:
        state = self.summary.verify_state
        return None if state is None else state.upid.start_s

    def verify_mark(self, now_s: float) -> Mark:
        """ok, failed, outdated, never; `!` unfinished, `?` unreadable."""
        if self.summary.damage is not None:
            return Mark.LOST
        if self.summary.is_unfinished:
            return Mark.WARN
        state = self.summary.verify_state
        if state is None:
            return Mark.NONE
        if state.state is VerifyResult.FAILED:
            return Mark.BAD
        return Mark.OLD if now_s - state.upid.start_s > OUTDATED_S else Mark.OK

    def verify_word(self, now_s: float) -> str:
        return {
            Mark.LOST: "unreadable",
            Mark.WARN: "unfinished",
            Mark.NONE: "never",
            Mark.BAD: "failed",
            Mark.OLD: "outdated",
            Mark.OK: "ok",
        }[self.verify_mark(now_s)]

    @property
    def flags(self) -> str:
        """Four fixed cells: P protected, E S M encryption, N note, I incomplete."""
        summary = self.summary
        return (
            ("P" if summary.is_protected else ".")
            + self.crypt_letter
            + ("N" if summary.comment else ".")
            + ("I" if summary.is_unfinished else ".")
        )

    @property
    def crypt_letter(self) -> str:
        modes = {archive.crypt_mode for archive in self.summary.archives}
        if not modes or modes == {CryptMode.NONE}:
            return "."
        if len(modes) > 1:
            return "M"
        return "E" if modes == {CryptMode.ENCRYPT} else "S"

    def facts(self, now_s: float) -> Mapping[str, str]:
        """For filters."""
        return {
            "snapshot": str(self.snapshot),
            "ns": str(self.snapshot.ns),
            "group": str(self.snapshot.group),
            "verify": self.verify_word(now_s),
            "owner": self.summary.owner,
            "note": self.summary.comment,
            "flag": ("protected " if self.summary.is_protected else "")
            + ("encrypted" if self.crypt_letter in "EM" else ""),
            "archive": " ".join(archive.name for archive in self.summary.archives),
        }


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every snapshot of a store at one moment, by group, newest first.

    Attributes:
        is_complete: everything was read; otherwise `done` of `total` so far.
    """

    store: str
    groups: Mapping[GroupId, tuple[SnapshotRow, ...]]
    is_complete: bool = True
    done: int = 0
    total: int = 0

    @property
    def rows(self) -> Iterable[SnapshotRow]:
        for rows in self.groups.values():
            yield from rows

    @property
    def count(self) -> int:
        return sum(len(rows) for rows in self.groups.values())


@dataclass(frozen=True, slots=True)
class VerifyCounts:
    """How many snapshots are in which state of verification."""

    ok: int = 0
    failed: int = 0
    old: int = 0
    never: int = 0
    unfinished: int = 0
    damaged: int = 0
    last_verify: int | None = None
    last_backup: int | None = None

    @classmethod
    def of(cls, rows: Iterable[SnapshotRow], now_s: float) -> "VerifyCounts":
        counts = dict.fromkeys(Mark, 0)
        last_verify = last_backup = 0
        for row in rows:
            counts[row.verify_mark(now_s)] += 1
            last_verify = max(last_verify, row.verified_s or 0)
            if not row.summary.is_unfinished:
                last_backup = max(last_backup, row.time_s)
        return cls(
            ok=counts[Mark.OK],
            failed=counts[Mark.BAD],
            old=counts[Mark.OLD],
            never=counts[Mark.NONE],
            unfinished=counts[Mark.WARN],
            damaged=counts[Mark.LOST],
            last_verify=last_verify or None,
            last_backup=last_backup or None,
        )

    @property
    def worst(self) -> tuple[Mark, int]:
        """The mark a group or namespace shows, and of how many snapshots."""
        for mark, number in (
            (Mark.BAD, self.failed),
            (Mark.LOST, self.damaged),
            (Mark.OLD, self.old),
            (Mark.WARN, self.unfinished),
            (Mark.NONE, self.never),
        ):
            if number:
                return mark, number
        return Mark.OK, self.ok
