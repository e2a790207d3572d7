from pathlib import Path

import pytest

from holdfast.errors import BadRequest, NotFound
from holdfast.operations.backup_spec import Spec, SpecKind, parse_specs


def test_named_archives_have_the_kind_of_their_suffix() -> None:
    assert Spec.parse("root.pxar:/") == Spec("root.pxar", SpecKind.TREE, "/")
    assert Spec.parse("disk-1.img:/dev/vda") == Spec("disk-1.img", SpecKind.IMAGE, "/dev/vda")
    assert Spec.parse("fstab.conf:/etc/fstab") == Spec("fstab.conf", SpecKind.BLOB, "/etc/fstab")
    assert Spec.parse("odd.pxar:/a:b").path == "/a:b"


def test_a_path_alone_names_its_archive(tmp_path: Path) -> None:
    (tmp_path / "My Data").mkdir()
    (tmp_path / "app.toml").write_text("x")
    (tmp_path / "disk.raw").write_bytes(b"x")

    assert Spec.parse("/").name == "root.pxar"
    assert Spec.parse(str(tmp_path / "My Data") + "/").name == "My_Data.pxar"
    assert Spec.parse(str(tmp_path / "app.toml")).name == "app.conf"
    assert Spec.parse(str(tmp_path / "disk.raw")).name == "disk.img"


@pytest.mark.parametrize("text", ["", "a b.pxar:/", "../x.pxar:/", ".pxar:/"])
def test_impossible_specs_are_refused(text: str) -> None:
    with pytest.raises((BadRequest, NotFound)):
        Spec.parse(text)


def test_two_archives_cannot_have_one_name(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"root\.pxar"):
        parse_specs(("root.pxar:/", f"root.pxar:{tmp_path}"))
