import io
import os
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.harness.small_store import SmallStore
from tests.harness.trees import File, Tree, encoded, split_archive, unified_archive

from holdfast.archive.open import OpenSnapshot
from holdfast.errors import BadRequest, MissingChunk, NotFound, Refused
from holdfast.operations.export import ExportFormat, ExportRequest, export, output_file
from holdfast.operations.progress import NullProgress

TREE: Tree = {"etc": {"passwd": File(b"root\n")}, "big": File(bytes(range(256)) * 30)}
IMAGE = [b"\1" * 65536, b"\2" * 1000]


@pytest.fixture
def store(tmp_path: Path) -> SmallStore:
    return SmallStore(tmp_path / "store")


@pytest.fixture
def opened(store: SmallStore) -> Iterator[OpenSnapshot]:
    contents: dict[str, Sequence[bytes] | bytes] = {
        **split_archive("root", TREE),
        **unified_archive("old", TREE),
        "d.img.fidx": IMAGE,
        "a.conf.blob": b"blob",
    }
    snapshot = store.snapshot("host/web1/2026-01-01T06:00:00Z", contents)
    with OpenSnapshot(store.store, snapshot) as opened:
        yield opened


def exported(opened: OpenSnapshot, archive: str, how: ExportFormat, path: bytes = b"") -> bytes:
    out = io.BytesIO()
    request = ExportRequest(archive=archive, format=how, path=path)
    outcome = export(opened, request, out, NullProgress())
    assert outcome.bytes_written == len(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize("name", ["root.pxar", "old.pxar"])
def test_trees_become_tar_and_zip(opened: OpenSnapshot, name: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(exported(opened, name, ExportFormat.TAR))) as tar:
        assert tar.getnames() == [".", "big", "etc", "etc/passwd"]
        content = tar.extractfile("big")
        assert content is not None
        assert content.read() == bytes(range(256)) * 30
    with zipfile.ZipFile(io.BytesIO(exported(opened, name, ExportFormat.ZIP, b"etc"))) as archive:
        assert archive.namelist() == ["etc/", "etc/passwd"]
        assert archive.read("etc/passwd") == b"root\n"


def test_raw_is_what_was_stored(opened: OpenSnapshot) -> None:
    assert exported(opened, "d.img", ExportFormat.RAW) == b"".join(IMAGE)
    assert exported(opened, "a.conf", ExportFormat.RAW) == b"blob"
    assert exported(opened, "old.pxar", ExportFormat.RAW) == encoded(TREE, is_split=False)[0]
    assert exported(opened, "root.mpxar", ExportFormat.RAW) == encoded(TREE)[0]
    with pytest.raises(BadRequest, match="two streams"):
        exported(opened, "root.pxar", ExportFormat.RAW)


def test_what_does_not_fit_is_refused(opened: OpenSnapshot) -> None:
    with pytest.raises(BadRequest, match="image"):
        exported(opened, "d.img", ExportFormat.TAR)
    with pytest.raises(BadRequest, match="whole archive"):
        exported(opened, "old.pxar", ExportFormat.RAW, b"etc")
    with pytest.raises(NotFound):
        exported(opened, "root.pxar", ExportFormat.ZIP, b"nothing")


def test_an_output_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    with output_file(str(target)) as out:
        out.write(b"abc")
        assert not target.exists()
    assert target.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["out.tar"]

    with pytest.raises(Refused, match="exists already"), output_file(str(target)):
        pass
    assert target.read_bytes() == b"abc"


def test_a_failed_export_leaves_nothing_behind(
    store: SmallStore, opened: OpenSnapshot, tmp_path: Path
) -> None:
    index = opened.tree("root.pxar").content_index
    store.path(index.digest_at(2)).unlink()
    target = tmp_path / "out" / "x.tar"
    target.parent.mkdir()
    request = ExportRequest(archive="root.pxar", format=ExportFormat.TAR)

    with pytest.raises(MissingChunk), output_file(str(target)) as out:
        export(opened, request, out, NullProgress())

    assert os.listdir(target.parent) == []
