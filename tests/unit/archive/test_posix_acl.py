import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.archive import posix_acl
from holdfast.archive.metadata import archived_acl, is_kept_xattr
from holdfast.archive.metadata_write import kernel_acls
from holdfast.archive.posix_acl import AclList
from holdfast.archive.pxar import format as pxar

bits = st.integers(0, 7)
named = st.dictionaries(st.integers(0, 2**32 - 2), bits, max_size=4).map(
    lambda entries: tuple(sorted(entries.items()))
)


@given(user=bits, group=bits, other=bits, mask=bits, users=named, groups=named)
def test_access_lists_survive_the_archive(  # noqa: PLR0917  # one per kind of entry
    user: int,
    group: int,
    other: int,
    mask: int,
    users: tuple[tuple[int, int], ...],
    groups: tuple[tuple[int, int], ...],
) -> None:
    acl = AclList(
        users=users, groups=groups, user_obj=user, group_obj=group, other=other, mask=mask
    )
    mode = user << 6 | mask << 3 | other  # what the kernel shows of a list with a mask

    archived = archived_acl(acl, acl)
    assert archived is not None
    access, default = kernel_acls(archived, mode)

    assert posix_acl.parse(access) == acl
    assert default is not None
    assert posix_acl.parse(default) == acl


def test_a_list_that_says_no_more_than_the_mode_is_not_archived() -> None:
    assert archived_acl(AclList(user_obj=6, group_obj=4, other=4), None) is None


@pytest.mark.parametrize("value", [b"", b"\x03\0\0\0", b"\x02\0\0\0\x01"])
def test_other_bytes_are_no_list(value: bytes) -> None:
    with pytest.raises(ValueError, match="access control list"):
        posix_acl.parse(value)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (b"user.x", True),
        (b"trusted.x", True),
        (b"security.NTACL", True),
        (b"security.selinux", False),
        (b"system.posix_acl_access", False),
        (b"security.capability", False),
        (b"user." + b"x" * 251, False),
        (b"", False),
    ],
)
def test_only_known_attribute_names_are_kept(name: bytes, kept: bool) -> None:
    assert is_kept_xattr(name) is kept


def test_a_default_list_without_its_mask_gets_one_that_takes_nothing_away() -> None:
    archived = pxar.Acl(
        default=pxar.AclDefault(6, 4, 4, pxar.ABSENT), default_users=(pxar.AclEntry(1001, 3),)
    )

    _access, default = kernel_acls(archived, 0o755)

    assert default is not None
    assert posix_acl.parse(default).mask == 7
