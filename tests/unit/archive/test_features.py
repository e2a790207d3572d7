from tests.harness.vectors import load

from holdfast.archive import features
from holdfast.archive.features import Feature

FLAGS = load("pxar", "flags")


def feature(name: str) -> Feature:
    short = name.removeprefix("WITH_").replace("2SEC_TIME", "TWO_SEC_TIME")
    return Feature[short]


def test_values_are_the_recorded_ones() -> None:
    recorded = {feature(name): int(value, 0) for name, value in FLAGS["flags"].items()}

    assert {one: one.value for one in Feature} == recorded
    assert int(FLAGS["DEFAULT"], 0) == features.DEFAULT
    assert int(FLAGS["WITH_CHATTR"], 0) == features.CHATTR
    assert int(FLAGS["WITH_FAT_ATTRS"], 0) == features.FAT_ATTRIBUTES
    for name in FLAGS["not_in_DEFAULT"]:
        assert feature(name) not in features.DEFAULT


def test_masks_of_file_systems_are_the_recorded_ones() -> None:
    for name, entry in FLAGS["by_filesystem"].items():
        magic = 0xDEAD if entry["magic"] is None else int(entry["magic"], 0)
        assert features.of_file_system(magic) == int(entry["mask"], 0), name
    recorded = {int(magic, 0) for magic in FLAGS["virtual_filesystems"].values()}
    assert recorded == features.VIRTUAL_MAGICS


def test_attribute_flags_map_both_ways() -> None:
    assert {feature(n): int(b, 0) for n, b in FLAGS["chattr_map"].items()} == features.CHATTR_BITS
    assert {feature(n): int(b, 0) for n, b in FLAGS["fat_map"].items()} == features.FAT_BITS
    assert int(FLAGS["initial_chattr"], 0) == features.INITIAL_CHATTR_BITS
    for table in (features.CHATTR_BITS, features.FAT_BITS):
        everything = sum(table.values())
        flags = features.flags_from_bits(everything, table)
        assert flags == sum(table)
        assert features.bits_from_flags(flags, table) == everything
    assert features.flags_from_bits(0, features.CHATTR_BITS) == 0
