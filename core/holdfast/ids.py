"""Names of things: namespaces, groups, snapshots, archives and chunk digests.

Source: Proxmox Backup Server, "Backup protocol" and "Technical overview"; the rules are written
down in docs/formats/datastore-layout.md.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from holdfast.errors import BadRequest

SAFE_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
TIME_NAME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
NAMESPACE_DEPTH_MAX: Final = 7
NAMESPACE_TEXT_MAX: Final = 256
DIGEST_BYTES: Final = 32

_TYPE_ORDER: Final = {"ct": 0, "host": 1, "vm": 2}


def is_safe_id(text: str) -> bool:
    """Whether `text` may name a store, group, namespace part or archive."""
    return SAFE_ID.fullmatch(text) is not None


def epoch_to_name(epoch_s: int) -> str:
    """`2026-11-21T06:00:00Z` for seconds since 1970; BadRequest outside the years 0..9999."""
    try:
        return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    except (ValueError, OverflowError, OSError) as error:
        raise BadRequest(f"{epoch_s} is no time a snapshot can have") from error


def name_to_epoch(name: str) -> int:
    """Seconds since 1970 of a snapshot's directory name; BadRequest when it is none."""
    if TIME_NAME.fullmatch(name) is None:
        raise BadRequest(f"{name!r} is no snapshot time; write it like 2026-11-21T06:00:00Z")
    try:
        parsed = datetime.strptime(name, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadRequest(f"{name!r} is no date of the calendar") from error
    return int(parsed.timestamp())


class BackupType(StrEnum):
    """What a group holds; also the directory's name."""

    VM = "vm"
    CT = "ct"
    HOST = "host"


@dataclass(frozen=True, slots=True, order=True)
class Namespace:
    """A path of at most seven safe ids; the root namespace is empty."""

    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.parts) > NAMESPACE_DEPTH_MAX:
            raise BadRequest(f"a namespace is at most {NAMESPACE_DEPTH_MAX} levels deep")
        for part in self.parts:
            if not is_safe_id(part):
                raise BadRequest(f"{part!r} cannot name a namespace: use letters, digits, . _ -")
        if len(str(self)) > NAMESPACE_TEXT_MAX:
            raise BadRequest(f"a namespace is at most {NAMESPACE_TEXT_MAX} characters long")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `prod/eu`; the empty text is the root."""
        return cls(tuple(text.split("/")) if text else ())

    def child(self, name: str) -> "Namespace":
        return Namespace((*self.parts, name))

    @property
    def parent(self) -> "Namespace | None":
        return Namespace(self.parts[:-1]) if self.parts else None

    @property
    def path(self) -> str:
        """Below the store's base: `ns/prod/ns/eu`, or an empty text."""
        return "/".join(f"ns/{part}" for part in self.parts)

    def __str__(self) -> str:
        return "/".join(self.parts)


@dataclass(frozen=True, slots=True)
class GroupId:
    """All snapshots of one machine: `host/web1` in a namespace."""

    type: BackupType
    id: str
    ns: Namespace = Namespace()

    def __post_init__(self) -> None:
        if not is_safe_id(self.id):
            raise BadRequest(f"{self.id!r} cannot name a backup: use letters, digits, . _ -")

    @classmethod
    def parse(cls, text: str, ns: Namespace = Namespace()) -> Self:
        """Read `host/web1`."""
        kind, slash, name = text.partition("/")
        if not slash or kind not in set(BackupType):
            raise BadRequest(f"{text!r} is no group: write TYPE/ID with TYPE host, vm or ct")
        return cls(BackupType(kind), name, ns)

    @property
    def path(self) -> str:
        """Below the store's base."""
        return "/".join(part for part in (self.ns.path, self.type.value, self.id) if part)

    @property
    def sort_key(self) -> tuple[int, int, int, str]:
        """Order of verification: type, then ids that are numbers by value, then text."""
        is_number = self.id.isascii() and self.id.isdigit() and int(self.id) < 1 << 64
        return (_TYPE_ORDER[self.type], not is_number, int(self.id) if is_number else 0, self.id)

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, slots=True)
class SnapshotId:
    """One backup: a group and the second it was taken."""

    group: GroupId
    time_s: int

    def __post_init__(self) -> None:
        epoch_to_name(self.time_s)

    @classmethod
    def parse(cls, text: str, ns: Namespace = Namespace()) -> Self:
        """Read `host/web1/2026-11-21T06:00:00Z`."""
        group, _slash, time_name = text.rpartition("/")
        return cls(GroupId.parse(group, ns), name_to_epoch(time_name))

    @property
    def time_name(self) -> str:
        return epoch_to_name(self.time_s)

    @property
    def path(self) -> str:
        """Below the store's base."""
        return f"{self.group.path}/{self.time_name}"

    @property
    def ns(self) -> Namespace:
        return self.group.ns

    def __str__(self) -> str:
        return f"{self.group}/{self.time_name}"


def parse_digest(text: str) -> bytes:
    """32 bytes from 64 hex digits; BadRequest otherwise."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_BYTES or len(text) != 2 * DIGEST_BYTES:
        raise BadRequest(f"{text!r} is no chunk digest: it has 64 hex digits")
    return digest
