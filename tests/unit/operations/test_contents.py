"""holdfast.operations.contents."""

import pytest

from holdfast.datastore.manifest import CryptMode, FileEntry
from holdfast.operations.contents import archive_name, archives


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("etc.pxar.didx", "etc.pxar"),
        ("etc.mpxar.didx", "etc.pxar"),
        ("etc.ppxar.didx", "etc.pxar"),
        ("drive-scsi0.img.fidx", "drive-scsi0.img"),
        ("fstab.conf.blob", "fstab.conf"),
        ("catalog.pcat1.didx", "catalog.pcat1"),
    ],
)
def test_a_person_names_an_archive_without_its_suffix(filename: str, name: str) -> None:
    assert archive_name(filename) == name


def test_the_two_halves_of_a_split_archive_are_one() -> None:
    files = [
        FileEntry("etc.mpxar.didx", CryptMode.ENCRYPT, 10, bytes(32)),
        FileEntry("fstab.conf.blob", CryptMode.ENCRYPT, 5, bytes(32)),
        FileEntry("etc.ppxar.didx", CryptMode.ENCRYPT, 1000, bytes(32)),
    ]

    first, second = archives(files)

    assert (first.name, first.size) == ("etc.pxar", 1010)
    assert first.filenames == ("etc.mpxar.didx", "etc.ppxar.didx")
    assert (second.name, second.size, second.crypt_mode) == ("fstab.conf", 5, CryptMode.ENCRYPT)
