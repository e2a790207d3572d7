"""Which WAL files the store has: the batches of a cluster, and what their indexes say.

A batch is a snapshot of the group `host/CLUSTER.wal`:
    wal.didx              the raw files one after the other, each beginning a new chunk
    walindex.json.blob    [{name, offset, size, sha256, tli, seg, archived_at, generation}]
    manifest              unprotected.pg = {kind: "wal", system_identifier, generation, tli: [...],
                          first, last, archived_until}
`archived_at` is when the server last wrote to the file: recovery with it reaches at least the
commits before. Indexes come from outside, so every field is checked; a batch that cannot be read
is remembered, because "not in the archive" must not be said while it is unknown what is.

Reading thousands of indexes for every file of a recovery takes long, so what was read is kept in a
file of JSON lines. It is trusted only as a list of places to look: contents are checked against the
digest in the index, and a file that is wrong or missing only costs time.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, DamagedData, HoldfastError, NotFound
from holdfast.host import files
from holdfast.ids import BackupType, GroupId, Namespace, SnapshotId, is_safe_id
from holdfast.postgres.wal_names import SEGMENT_BYTES_MAX, WalName, parse_wal_name
from holdfast.units import MIB

STREAM_NAME: Final = "wal.didx"
INDEX_NAME: Final = "walindex.json.blob"
GROUP_SUFFIX: Final = ".wal"
BATCH_FILES_MAX: Final = 4096
_CACHE_BYTES_MAX: Final = 512 * MIB
_TIME_MAX: Final = 1 << 40


def wal_group(cluster: str, ns: Namespace) -> GroupId:
    """The group of a cluster's WAL batches (BadRequest)."""
    if not is_safe_id(cluster):
        raise BadRequest(f"{cluster!r} cannot name a cluster: use letters, digits, . _ -")
    return GroupId(BackupType.HOST, cluster + GROUP_SUFFIX, ns)


@dataclass(frozen=True, slots=True)
class WalEntry:
    """One WAL file in the store.

    Attributes:
        name: of the file.
        generation: the history it belongs to, by the second in which that began.
        offset, size: where it lies in the batch's stream.
        sha256: of its content, in hex.
        archived_at: when the server last wrote to it, in seconds.
        batch: the snapshot it lies in.
    """

    name: WalName
    generation: int
    offset: int
    size: int
    sha256: str
    archived_at: int
    batch: SnapshotId

    def to_json(self, segment_bytes: int) -> dict[str, Any]:
        """As the batch's index has it."""
        return {
            "name": self.name.text,
            "offset": self.offset,
            "size": self.size,
            "sha256": self.sha256,
            "tli": self.name.timeline,
            "seg": self.name.segment(segment_bytes),
            "archived_at": self.archived_at,
            "generation": self.generation,
        }

    @classmethod
    def from_json(cls, value: Any, batch: SnapshotId) -> Self:
        """Check one element of an index (DamagedData)."""
        what = f"the WAL index of {batch}"
        if not isinstance(value, dict):
            raise DamagedData(what, "an entry is no object")
        digest = value.get("sha256")
        if not isinstance(digest, str) or len(digest) != 64 or not _is_hex(digest):  # noqa: PLR2004
            raise DamagedData(what, "an entry has no digest")
        try:
            name = parse_wal_name(str(value.get("name")))
        except BadRequest as error:
            raise DamagedData(what, error.message) from error
        return cls(
            name=name,
            generation=_number(value, "generation", _TIME_MAX, what),
            offset=_number(value, "offset", 1 << 63, what),
            size=_number(value, "size", SEGMENT_BYTES_MAX + 1, what),
            sha256=digest,
            archived_at=_number(value, "archived_at", _TIME_MAX, what),
            batch=batch,
        )


def _number(value: dict[str, Any], key: str, end: int, what: str) -> int:
    number = value.get(key, 0 if key == "generation" else None)
    if type(number) is not int or not 0 <= number < end:
        raise DamagedData(what, f"{key} is no number it can be")
    return number


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)


def read_batch(
    store: Datastore, batch: SnapshotId, key: EncryptionKey | None = None
) -> list[WalEntry]:
    """The files of one batch (NotFound, DamagedData, KeyProblem)."""
    what = f"the WAL index of {batch}"
    data = store.read_blob(batch, INDEX_NAME, key)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedData(what, "it is no JSON") from error
    if not isinstance(values, list) or len(values) > BATCH_FILES_MAX:
        raise DamagedData(what, "it is no list of files")
    return [WalEntry.from_json(value, batch) for value in values]


@dataclass(slots=True)
class WalCatalogue:
    """All WAL files of a cluster that the store has.

    Attributes:
        group: of the batches.
        entries: by name; more than one when a file was stored again, or belongs to two histories.
        unreadable: batches whose index cannot be read, and why.
    """

    group: GroupId
    entries: dict[str, list[WalEntry]] = field(default_factory=dict)
    unreadable: list[tuple[SnapshotId, str]] = field(default_factory=list)

    @classmethod
    def load(
        cls,
        store: Datastore,
        group: GroupId,
        *,
        key: EncryptionKey | None = None,
        cache_path: str | None = None,
    ) -> Self:
        """Read the indexes of all batches, or take them from the cache and keep it up to date.

        Raises:
            HoldfastError: the group cannot be listed.
        """
        catalogue = cls(group)
        known = _read_cache(cache_path, group) if cache_path else {}
        batches = [one for one in _snapshots(store, group) if store.is_finished(one)]
        found: dict[SnapshotId, list[WalEntry]] = {}
        for batch in batches:
            try:
                found[batch] = known[batch] if batch in known else read_batch(store, batch, key)
            except NotFound:  # removed meanwhile
                continue
            except HoldfastError as error:
                catalogue.unreadable.append((batch, error.message))
        for entries in found.values():
            for entry in entries:
                catalogue.entries.setdefault(entry.name.text, []).append(entry)
        if cache_path and found.keys() != known.keys():
            _write_cache(cache_path, group, found)
        return catalogue

    @property
    def generations(self) -> list[int]:
        """The histories there are, oldest first."""
        return sorted({entry.generation for entry in self})

    def __iter__(self) -> Iterator[WalEntry]:
        for entries in self.entries.values():
            yield from entries


def _snapshots(store: Datastore, group: GroupId) -> list[SnapshotId]:
    try:
        return store.snapshots(group)
    except NotFound:
        return []


# The cache ----------------------------------------------------------------------------------------


def _read_cache(path: str, group: GroupId) -> dict[SnapshotId, list[WalEntry]]:
    """What an earlier run read; nothing when the file is missing or not believable."""
    try:
        data = files.read_file(path, size_max=_CACHE_BYTES_MAX)
        lines = data.decode().splitlines()
        if not lines or json.loads(lines[0]) != _cache_head(group):
            return {}
        known = {}
        for line in lines[1:]:
            time_s, values = json.loads(line)
            batch = SnapshotId(group, int(time_s))
            known[batch] = [WalEntry.from_json(value, batch) for value in values]
    except (OSError, ValueError, TypeError, RecursionError, HoldfastError):
        return {}
    return known


def _write_cache(path: str, group: GroupId, found: dict[SnapshotId, list[WalEntry]]) -> None:
    """Best effort: without it the next run reads more."""
    lines = [json.dumps(_cache_head(group))]
    for batch, entries in found.items():
        values = [entry.to_json(SEGMENT_BYTES_MAX) for entry in entries]
        lines.append(json.dumps([batch.time_s, values], separators=(",", ":")))
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        files.replace_file(path, ["\n".join(lines).encode()], mode=0o600)
    except OSError:
        return


def _cache_head(group: GroupId) -> list[str]:
    return ["holdfast wal catalogue 1", str(group.ns), str(group)]


def same_content(entries: Iterable[WalEntry]) -> bool:
    """Whether all of them have one content."""
    return len({entry.sha256 for entry in entries}) <= 1
