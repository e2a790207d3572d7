"""Recorded pxar archives, and in-memory streams to write and read them with."""

import stat as stat_bits
from collections.abc import Iterator
from typing import Any

from holdfast.archive.pxar.format import Acl, AclDefault, AclEntry, Metadata, Stat, Xattr
from tests.harness.pxar_encoder import Encoder
from tests.harness.vectors import load


class MemorySink:
    """A stream in memory that can also skip ahead, as if foreign chunks had been injected."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.suggested: list[int] = []
        self.skipped = 0

    @property
    def position(self) -> int:
        return len(self.data) + self.skipped

    def write(self, data: bytes, /) -> None:
        self.data += data

    def suggest(self) -> None:
        self.suggested.append(self.position)


class BytesReader:
    """Random access to bytes; counts what was read."""

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data)
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        assert offset >= 0
        return self.data[offset : offset + length]

    def view_at(self, offset: int, length: int) -> memoryview:
        self.reads.append((offset, length))
        return memoryview(self.data)[offset : offset + min(length, 1000)]

    def pieces(self, start: int, end: int) -> Iterator[memoryview]:
        self.reads.append((start, end - start))
        for at in range(start, end, 1000):
            yield memoryview(self.data)[at : min(at + 1000, end)]


def recorded_archives() -> list[dict[str, Any]]:
    archives: list[dict[str, Any]] = load("pxar", "archives")["archives"]
    return archives


def streams_of(archive: dict[str, Any]) -> tuple[BytesReader, BytesReader | None]:
    """Readers of a recorded archive's stream or streams."""
    if archive["version"] == 1:
        return BytesReader(bytes.fromhex(archive["pxar_hex"])), None
    payload = BytesReader(bytes.fromhex(archive["ppxar_hex"]))
    return BytesReader(bytes.fromhex(archive["mpxar_hex"])), payload


def metadata_of(meta: dict[str, Any]) -> Metadata:
    """The metadata a recorded operation describes."""
    acl = meta.get("acl")
    return Metadata(
        stat=Stat(
            mode=meta["mode"],
            flags=meta.get("flags", 0),
            uid=meta.get("uid", 0),
            gid=meta.get("gid", 0),
            mtime_s=meta.get("mtime_secs", 0),
            mtime_ns=meta.get("mtime_nanos", 0),
        ),
        xattrs=tuple(
            Xattr(bytes.fromhex(name), bytes.fromhex(value))
            for name, value in meta.get("xattrs_hex", ())
        ),
        acl=None if acl is None else acl_of(acl),
        fcaps=bytes.fromhex(meta["fcaps_hex"]) if "fcaps_hex" in meta else None,
        projid=meta.get("projid"),
    )


def acl_of(acl: dict[str, Any]) -> Acl:
    named = {
        key: tuple(AclEntry(*pair) for pair in acl.get(key, ()))
        for key in ("users", "groups", "default_users", "default_groups")
    }
    default = acl.get("default")
    return Acl(
        group_obj=acl.get("group_obj"),
        default=None if default is None else AclDefault(*default),
        **named,
    )


def name_of(operation: dict[str, Any]) -> bytes:
    if "name_hex" in operation:
        return bytes.fromhex(operation["name_hex"])
    name: str = operation["name"]
    return name.encode()


def encode_recorded(archive: dict[str, Any]) -> tuple[bytes, bytes, list[int | None]]:
    """Encode an archive's operations: metadata stream, payload stream, FILENAME positions."""
    meta_out, payload_out = MemorySink(), MemorySink()
    prelude = archive.get("prelude_hex")
    root = dict(archive["root"])
    root["mode"] |= stat_bits.S_IFDIR
    encoder = Encoder(
        meta_out,
        payload_out if archive["version"] == 2 else None,
        root=metadata_of(root),
        prelude=None if prelude is None else bytes.fromhex(prelude),
    )
    content = payload_out if archive["version"] == 2 else meta_out
    starts: list[int | None] = []
    for operation in archive["ops"]:
        starts.append(_apply(encoder, content, operation, starts))
    encoder.finish()
    return bytes(meta_out.data), bytes(payload_out.data), starts


def _apply(  # noqa: PLR0911 - one operation each
    encoder: Encoder, content: MemorySink, op: dict[str, Any], starts: list[int | None]
) -> int | None:
    kind = op["op"]
    if kind == "end":
        encoder.end_directory()
        return None
    if kind == "advance":
        content.skipped += op["size"]
        return None
    name = name_of(op)
    if kind == "hardlink":
        target_start = starts[op["target_op"]]
        assert target_start is not None
        return encoder.hardlink(name, target_start=target_start, target_path=op["target"].encode())
    metadata = metadata_of(op["meta"])
    if kind == "dir":
        return encoder.begin_directory(name, metadata)
    if kind == "file":
        data = bytes.fromhex(op["data_hex"])
        start = encoder.file(name, metadata, len(data))
        content.write(data)
        return start
    if kind == "ref":
        return encoder.file_reference(name, metadata, op["size"], op["payload_offset"])
    if kind == "symlink":
        return encoder.symlink(name, metadata, op["target"].encode())
    if kind == "device":
        return encoder.device(name, metadata, major=op["major"], minor=op["minor"])
    return encoder.special(name, metadata)
