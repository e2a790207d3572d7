from pathlib import Path

from tests.harness.small_store import FIXED_CHUNK_BYTES, SmallStore

from holdfast.datastore.affected import ChunkUse, uses_of

A, B = b"a" * FIXED_CHUNK_BYTES, b"b" * FIXED_CHUNK_BYTES


def test_every_use_is_told_with_its_bytes_and_neighbours_are_joined(tmp_path: Path) -> None:
    small = SmallStore(tmp_path / "store")
    image = small.snapshot("vm/1/2026-01-01T00:00:00Z", {"d.img.fidx": [A, B, B, A, B]})
    small.snapshot("vm/1/2026-01-02T00:00:00Z", {"d.img.fidx": [A]})
    tree = small.snapshot("host/h/2026-01-01T00:00:00Z", {"r.pxar.didx": [b"head", B]}, ns="a")

    uses = list(uses_of(small.read_only(), small.put(B)))

    size = FIXED_CHUNK_BYTES
    assert uses == [
        ChunkUse(tree, "r.pxar.didx", ((4, 4 + size),)),
        ChunkUse(image, "d.img.fidx", ((size, 3 * size), (4 * size, 5 * size))),
    ]
