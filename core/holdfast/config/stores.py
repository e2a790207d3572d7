"""What the configuration says of one store."""

import os
from dataclasses import dataclass, field
from typing import Final

from holdfast.config.toml_source import Section
from holdfast.datastore.options import ChunkOrder, StoreOptions, SyncLevel
from holdfast.ids import is_safe_id

KEEP_NAMES: Final = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many snapshots per group prune keeps; None means that rule is not used."""

    last: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    yearly: int | None = None

    @property
    def is_empty(self) -> bool:
        return all(getattr(self, name) is None for name in KEEP_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """One `[stores.NAME]` table, checked.

    Attributes:
        name: a safe id; what --store and task ids call it.
        path: absolute.
        options: how the engine treats it.
        keyfile: encrypts new backups unless another key is given.
        master_key: public PEM file; encrypted backups carry their key for its private half.
        is_read_only: opened for reading whatever the command line says.
    """

    name: str
    path: str
    comment: str = ""
    options: StoreOptions = field(default_factory=StoreOptions)
    is_read_only: bool = False
    keyfile: str | None = None
    master_key: str | None = None
    keep: Keep = field(default_factory=Keep)

    @classmethod
    def parse(cls, section: Section) -> "StoreSettings":
        """Read one table (BadRequest with file and line)."""
        if not is_safe_id(section.name):
            section.complain(
                "", f"{section.name!r} cannot name a store: use letters, digits, . _ -"
            )
        settings = cls(
            name=section.name,
            path=_directory(section, "path"),
            comment=section.text("comment") or "",
            options=_options(section),
            is_read_only=section.flag("read-only", default=False),
            keyfile=_expanded(section.text("keyfile")),
            master_key=_expanded(section.text("master-key")),
            keep=parse_keep(section),
        )
        section.refuse_unknown()
        return settings


def _options(section: Section) -> StoreOptions:
    default = StoreOptions()
    return StoreOptions(
        chunk_order=section.choice("chunk-order", ChunkOrder, default=default.chunk_order),
        sync_level=section.choice("sync-level", SyncLevel, default=default.sync_level),
        verify_new=section.flag("verify-new", default=default.verify_new),
    )


def parse_keep(section: Section) -> Keep:
    """The `keep-last = N` ... `keep-yearly = N` of any table."""
    return Keep(**{name: section.integer(f"keep-{name}", low=1) for name in KEEP_NAMES})


def _expanded(path: str | None) -> str | None:
    return None if path is None else os.path.expanduser(path)


def _directory(section: Section, key: str) -> str:
    path = _expanded(section.text(key))
    if path is None:
        section.complain(
            key, f"store {section.name!r} has no path", hint='add a line like path = "/srv/backup"'
        )
    if not os.path.isabs(path):
        section.complain(key, f"{key} = {path!r} is not absolute", hint="begin it with / or ~/")
    return os.path.normpath(path)
