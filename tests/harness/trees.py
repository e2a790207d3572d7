"""Trees written as dictionaries, turned into archives and into snapshots of a small store."""

from collections.abc import Sequence
from typing import NamedTuple

from holdfast.archive.pxar.format import Metadata, Stat
from tests.harness.archives import MemorySink
from tests.harness.pxar_encoder import Encoder

DIRECTORY = Metadata(Stat(0o40755, 0, 0, 0, 1_700_000_000))


class File(NamedTuple):
    content: bytes
    mtime: int = 1_700_000_000
    mode: int = 0o100644


class Link(NamedTuple):
    """A further name of the file at `path`, which comes earlier."""

    path: str


Tree = dict[str, "File | Link | Tree | str"]
"""Names to files, hard links, directories, or symbolic links (text)."""


def encoded(tree: Tree, *, is_split: bool = True) -> tuple[bytes, bytes]:
    """The metadata stream and the payload stream; of version 1 the archive and nothing."""
    meta, payload = MemorySink(), MemorySink()
    encoder = Encoder(meta, payload if is_split else None, root=DIRECTORY)
    _fill(encoder, payload if is_split else meta, tree, "", {})
    encoder.finish()
    return bytes(meta.data), bytes(payload.data)


def _fill(
    encoder: Encoder, content: MemorySink, tree: Tree, above: str, starts: dict[str, int]
) -> None:
    for name, node in sorted(tree.items()):
        path = f"{above}{name}"
        raw = name.encode("utf-8", "surrogateescape")
        if isinstance(node, File):
            metadata = Metadata(Stat(node.mode, 0, 1000, 100, node.mtime))
            starts[path] = encoder.file(raw, metadata, len(node.content))
            content.write(node.content)
        elif isinstance(node, Link):
            start = starts[node.path]
            encoder.hardlink(raw, target_start=start, target_path=node.path.encode())
        elif isinstance(node, str):
            encoder.symlink(raw, Metadata(Stat(0o120777)), node.encode())
        else:
            encoder.begin_directory(raw, DIRECTORY)
            _fill(encoder, content, node, f"{path}/", starts)
            encoder.end_directory()


def chunked(data: bytes, size: int = 1024) -> Sequence[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def split_archive(name: str, tree: Tree) -> dict[str, Sequence[bytes]]:
    """The two streams of an archive, for SmallStore.snapshot."""
    meta, payload = encoded(tree)
    return {f"{name}.ppxar.didx": chunked(payload), f"{name}.mpxar.didx": chunked(meta)}


def unified_archive(name: str, tree: Tree) -> dict[str, Sequence[bytes]]:
    """The one stream of a version 1 archive, for SmallStore.snapshot."""
    return {f"{name}.pxar.didx": chunked(encoded(tree, is_split=False)[0])}
