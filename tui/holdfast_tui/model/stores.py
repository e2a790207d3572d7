"""Stores as the screens show them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """One store at one moment. Sizes in bytes, moments in seconds since 1970; None is unknown.

    Attributes:
        error: why it cannot be opened; empty when it can.
        refusal: why it cannot be changed by this run; empty when it can.
        total, free: of the file system it lies on.
        stored, logical: chunk files in use and what they stand for, by the last gc.
        pending: unused bytes that the next gc may remove.
        removed: freed by the last gc.
        snapshots, groups: counted when the snapshots were read; None before.
        failed, old, never: snapshots whose last check failed, is too old, or never was.
        unfinished: snapshots without a manifest; damaged: with one that cannot be read.
        last_verify: start of the newest verification any snapshot knows of.
    """

    name: str
    path: str
    comment: str = ""
    error: str = ""
    hint: str = ""
    refusal: str = ""
    total: int | None = None
    free: int | None = None
    stored: int | None = None
    logical: int | None = None
    chunks: int | None = None
    pending: int | None = None
    removed: int | None = None
    bad_chunks: int = 0
    last_gc: int | None = None
    last_gc_upid: str = ""
    snapshots: int | None = None
    groups: int | None = None
    failed: int = 0
    old: int = 0
    never: int = 0
    unfinished: int = 0
    damaged: int = 0
    last_verify: int | None = None
    last_backup: int | None = None
    read_at: float = 0

    @property
    def is_open(self) -> bool:
        return not self.error

    @property
    def used(self) -> int | None:
        if self.total is None or self.free is None:
            return None
        return self.total - self.free

    @property
    def used_part(self) -> float | None:
        """0..1 of the file system."""
        return None if self.used is None or not self.total else self.used / self.total

    @property
    def dedup(self) -> float | None:
        """How often a stored byte is used on average."""
        return None if not self.stored or self.logical is None else self.logical / self.stored
