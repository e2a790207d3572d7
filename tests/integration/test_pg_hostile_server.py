"""What a server sends as a base backup is not trusted: it cannot write elsewhere, nor confuse."""

import io
import tarfile
from pathlib import Path

import pytest
from tests.harness.scripted_server import DONE, READY, copy_out, failed, rows, scripted_server

from holdfast.errors import DamagedData, HoldfastError, TemporaryFailure
from holdfast.operations.pg_native import ReceivedTree
from holdfast.postgres.base_backup_stream import Place, stream, upload_manifest
from holdfast.postgres.libpq import ReplicationConnection
from holdfast.postgres.server import QueryFailed

START, SPACES, STOP = rows(("0/2000028", "1")), rows(("", "", "12")), rows(("0/20000F8", "1"))
BASE = b"nbase.tar\0\0"


def tar(*names: str) -> bytes:
    """Files of one byte; a name that ends in a slash is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = 0 if name.endswith("/") else 1
            archive.addfile(info, io.BytesIO(b"x"))
    return b"d" + out.getvalue()


def take(place: Path, answer: bytes) -> tuple[Place, Place]:
    with scripted_server(answer) as where:
        connection = ReplicationConnection(where)
        try:
            return stream(
                connection,
                "x",
                lambda oid: ReceivedTree(str(place / str(oid or "data")), {}),
                fast=True,
                is_incremental=False,
                take_manifest=len,
            )
        finally:
            connection.close()


def test_a_good_backup_is_written_as_it_comes(tmp_path: Path) -> None:
    copy = copy_out(
        *(b"n16400.tar\0/space\0", tar("PG_17_1/", "PG_17_1/5"), b"p12345678"),
        *(BASE, tar("global/", "global/1", "PG_VERSION")),
    )
    places = take(tmp_path, START + SPACES + copy + STOP + DONE)
    assert places == (Place(0x2000028, 1), Place(0x20000F8, 1))
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == [
        *("16400", "16400/PG_17_1", "16400/PG_17_1/5"),
        *("data", "data/PG_VERSION", "data/global", "data/global/1"),
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (tar("early"),),
        (b"nother.tar\0\0", tar("1")),
        (b"n../16400.tar\0\0", tar("1")),
        (b"n16400.tar", tar("1")),
        (BASE, b"z"),
        (BASE, b""),
        (BASE, tar("../outside")),
        (BASE, tar("twice", "twice")),
        (BASE, tar("a", "a/b")),
        (BASE, tar("missing/1")),
        (BASE, tar("1")[:600]),
        (BASE, tar("1")[:1025]),
        (BASE, tar("1"), BASE, tar("2")),
    ],
)
def test_nonsense_in_the_stream_is_refused(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises((DamagedData, FileExistsError)):
        take(tmp_path / "here", START + SPACES + copy_out(*pieces) + STOP + DONE)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    "answer",
    [
        READY,
        START + DONE,
        START + SPACES + DONE,
        rows(("elsewhere", "1")) + SPACES + copy_out(BASE, tar("1")) + STOP + DONE,
        rows(("0/1", "1", "2")) + SPACES + copy_out(BASE, tar("1")) + STOP + DONE,
        rows(("0/1", "-1")) + SPACES + copy_out(BASE, tar("1")) + STOP + DONE,
        START + SPACES + copy_out(BASE, tar("1")) + DONE,
    ],
)
def test_an_answer_that_is_no_backup_is_refused(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(DamagedData, match="answer of the server"):
        take(tmp_path, answer)


def test_a_server_that_fails_or_goes_away_is_told_apart(tmp_path: Path) -> None:
    whole = START + SPACES + copy_out(BASE, tar("1"))
    with pytest.raises(QueryFailed, match="checksum verification failure"):
        take(tmp_path, whole + failed("XX001", "checksum verification failure"))
    (tmp_path / "a").mkdir()
    with pytest.raises(TemporaryFailure, match="shutting down"):
        take(tmp_path / "a", whole + failed("57P01", "shutting down"))
    for cut in (10, len(START + SPACES) + 700, len(whole) - 3):
        place = tmp_path / str(cut)
        place.mkdir()
        with pytest.raises(TemporaryFailure, match="connection"):
            take(place, whole[:cut])


def test_a_server_that_wants_no_manifest_is_believed() -> None:
    with scripted_server(DONE, failed("42601", "syntax error")) as where:
        connection = ReplicationConnection(where)
        with pytest.raises(DamagedData, match="does not want"):
            upload_manifest(connection, b"{}")
        connection.close()
    with scripted_server(failed("42601", "syntax error")) as where:
        connection = ReplicationConnection(where)
        with pytest.raises(QueryFailed, match="syntax error"):
            upload_manifest(connection, b"{}")
        connection.close()
    with pytest.raises(HoldfastError, match="no replication connection"):
        ReplicationConnection("host=/nowhere")
