import io
import stat as stat_bits
import tarfile
import zipfile

import pytest
from tests.harness.archives import BytesReader, MemorySink, recorded_archives, streams_of
from tests.harness.pxar_encoder import Encoder
from tests.harness.vectors import load

from holdfast.archive.export_tree import find_top
from holdfast.archive.pxar.accessor import Accessor
from holdfast.archive.pxar.format import Metadata, Stat
from holdfast.archive.tar_export import write_tar
from holdfast.archive.zip_export import write_zip
from holdfast.errors import NotFound

RICH = next(archive for archive in recorded_archives() if archive["name"] == "v2-rich")
DIRECTORY = Metadata(Stat(0o40755, 0, 0, 0, 1_700_000_000))


def tar_of(accessor: Accessor, path: bytes = b"") -> tuple[tarfile.TarFile, list[str]]:
    out, warnings = io.BytesIO(), list[str]()
    write_tar(accessor, find_top(accessor, path), out, warnings.append)
    assert len(out.getvalue()) % tarfile.RECORDSIZE == 0
    out.seek(0)
    return tarfile.open(fileobj=out, errors="surrogateescape"), warnings


def zip_of(accessor: Accessor, path: bytes = b"") -> tuple[zipfile.ZipFile, list[str]]:
    out, warnings = io.BytesIO(), list[str]()
    write_zip(accessor, find_top(accessor, path), out, warnings.append)
    return zipfile.ZipFile(out), warnings


def test_tar_holds_everything_but_sockets() -> None:
    tar, warnings = tar_of(Accessor(*streams_of(RICH)))
    members = {member.name: member for member in tar}

    assert "run/sock0" in warnings[0]
    assert len(warnings) == 1
    assert members["."].isdir()
    assert members["."].pax_headers["mtime"] == "1700000000.123456789"
    assert members["bin"].linkname == "usr/bin"
    assert members["dev/null"].ischr()
    assert (members["dev/nvme-big"].devmajor, members["dev/nvme-big"].devminor) == (259, 1048575)
    assert members["run/fifo0"].isfifo()
    assert members["home/user/foo\udcff.bin"].size == 2
    profile = tar.extractfile(members["home/user/.profile"])
    assert profile is not None
    assert profile.read() == b"umask 022\n"
    assert members["home/user"].uid == 1000


def test_tar_carries_attributes_lists_and_capabilities() -> None:
    tar, _warnings = tar_of(Accessor(*streams_of(RICH)), b"usr/bin")
    headers = tar.getmember("bin/ping").pax_headers

    assert headers["SCHILY.xattr.user.comment"] == "net tool"
    assert headers["SCHILY.xattr.user.empty"] == ""
    assert headers["SCHILY.xattr.trusted.bin"].encode("utf-8", "surrogateescape") == b"\0\1\xff\0"
    assert len(headers["SCHILY.xattr.security.capability"]) == 20
    assert headers["SCHILY.acl.access"] == (
        "user::rwx,user:0:rwx,user:1000:r-x,group::r-x,group:27:r-x,mask::r-x,other::r-x"
    )


def test_tar_carries_default_lists_of_directories() -> None:
    tar, _warnings = tar_of(Accessor(*streams_of(RICH)), b"run")

    assert tar.getmember("run").pax_headers["SCHILY.acl.default"] == (
        "user::rw-,user:1001:r--,group::r--,group:33:r-x,group:34:--x,other::r--"
    )


def linked() -> Accessor:
    """a/first is the file, a/second and b/third are further names of it."""
    meta, payload = MemorySink(), MemorySink()
    encoder = Encoder(meta, payload, root=DIRECTORY)
    encoder.begin_directory(b"a", DIRECTORY)
    start = encoder.file(b"first", Metadata(Stat(0o100600, 0, 5, 5, -2, 500_000_000)), 3)
    payload.write(b"abc")
    encoder.hardlink(b"second", target_start=start, target_path=b"a/first")
    encoder.end_directory()
    encoder.begin_directory(b"b", DIRECTORY)
    encoder.hardlink(b"third", target_start=start, target_path=b"a/first")
    encoder.hardlink(b"fourth", target_start=start, target_path=b"a/first")
    encoder.end_directory()
    encoder.finish()
    return Accessor(BytesReader(bytes(meta.data)), BytesReader(bytes(payload.data)))


def test_tar_links_further_names_to_the_first() -> None:
    tar, _warnings = tar_of(linked())

    assert tar.getmember("a/first").isreg()
    assert tar.getmember("a/first").pax_headers["mtime"] == "-1.500000000"
    for name in ("a/second", "b/third"):
        assert tar.getmember(name).islnk()
        assert tar.getmember(name).linkname == "a/first"


def test_a_file_whose_first_name_is_not_exported_is_written_once() -> None:
    tar, _warnings = tar_of(linked(), b"b")

    assert tar.getnames() == ["b", "b/third", "b/fourth"]
    assert tar.getmember("b/third").isreg()
    assert tar.getmember("b/fourth").linkname == "b/third"


def test_zip_copies_further_names() -> None:
    archive, _warnings = zip_of(linked(), b"b")

    assert archive.read("b/third") == archive.read("b/fourth") == b"abc"
    assert archive.getinfo("b/third").date_time == (1980, 1, 1, 0, 0, 0)


def test_zip_holds_files_links_and_directories() -> None:
    archive, warnings = zip_of(Accessor(*streams_of(RICH)))

    assert archive.testzip() is None
    assert archive.read("home/user/.profile") == b"umask 022\n"
    assert archive.read("bin") == b"usr/bin"
    assert stat_bits.S_ISLNK(archive.getinfo("bin").external_attr >> 16)
    assert archive.getinfo("usr-empty/").is_dir()
    assert archive.read("home/user/foo%FF.bin") == b"\0\xff"
    left_out = " ".join(warnings)
    for name in ("loop0", "null", "fifo0", "sock0", r"foo\xff.bin"):
        assert name in left_out


def test_a_single_file_can_be_exported() -> None:
    tar, _warnings = tar_of(linked(), b"a/first")
    assert tar.getnames() == ["first"]

    with pytest.raises(NotFound):
        tar_of(linked(), b"a/nothing")


@pytest.mark.parametrize("name", ["type-mismatch", "hardlink-absolute", "hardlink-to-directory"])
def test_entries_that_must_not_be_restored_are_left_out_with_a_warning(name: str) -> None:
    case = next(c for c in load("pxar", "malicious")["cases"] if c["name"] == name)

    tar, warnings = tar_of(Accessor(BytesReader(bytes.fromhex(case["pxar_hex"]))))

    assert warnings
    assert all("left out" in warning for warning in warnings)
    assert not any(member.islnk() for member in tar)
