"""Names of namespaces, groups and snapshots: what is taken, what is refused, how they sort."""

import pytest

from holdfast.errors import BadRequest
from holdfast.ids import (
    BackupType,
    GroupId,
    Namespace,
    SnapshotId,
    epoch_to_name,
    is_safe_id,
    name_to_epoch,
    parse_digest,
)


@pytest.mark.parametrize(
    ("epoch_s", "name"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_718_000_000, "2024-06-10T06:13:20Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (-62_135_596_800, "0001-01-01T00:00:00Z"),
    ],
)
def test_time_and_name_stand_for_each_other(epoch_s: int, name: str) -> None:
    assert epoch_to_name(epoch_s) == name
    assert name_to_epoch(name) == epoch_s


@pytest.mark.parametrize(
    "name",
    [
        "2024-13-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-06-10T24:00:00Z",
        "2024-06-10T06:13:20",
        "2024-06-10 06:13:20Z",
        "2024-06-10T06:13:20Z\n",
        "٢٠٢٤-06-10T06:13:20Z",
        "",
    ],
)
def test_what_is_no_time_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        name_to_epoch(name)


@pytest.mark.parametrize("epoch_s", [1 << 40, 1 << 70, -(1 << 70)])
def test_time_beyond_the_calendar_is_refused(epoch_s: int) -> None:
    with pytest.raises(BadRequest):
        epoch_to_name(epoch_s)


@pytest.mark.parametrize("text", ["a", "A-1.b_c", "_x", "0", "100"])
def test_safe_names_are_taken(text: str) -> None:
    assert is_safe_id(text)
    assert GroupId.parse(f"host/{text}").id == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".x", "-x", "a/b", "a b", "ä", "a\n", "a\0", "../x"]
)
def test_unsafe_names_are_refused_everywhere(text: str) -> None:
    assert not is_safe_id(text)
    with pytest.raises(BadRequest):
        GroupId(BackupType.HOST, text)
    with pytest.raises(BadRequest):
        Namespace((text,))


def test_paths_below_the_store() -> None:
    snapshot = SnapshotId.parse("vm/100/2024-06-10T06:13:20Z", Namespace.parse("prod/eu"))

    assert snapshot.path == "ns/prod/ns/eu/vm/100/2024-06-10T06:13:20Z"
    assert str(snapshot) == "vm/100/2024-06-10T06:13:20Z"
    assert str(snapshot.ns) == "prod/eu"
    assert SnapshotId.parse("ct/1/1970-01-01T00:00:05Z").path == "ct/1/1970-01-01T00:00:05Z"


def test_namespaces_are_at_most_seven_deep_and_256_long() -> None:
    assert len(Namespace.parse("a/b/c/d/e/f/g").parts) == 7
    assert str(Namespace(("x" * 256,))) == "x" * 256
    for text in ("a/b/c/d/e/f/g/h", "x" * 257, "a//b", "/a", "a/"):
        with pytest.raises(BadRequest):
            Namespace.parse(text)
    assert Namespace.parse("a/b").parent == Namespace.parse("a")
    assert Namespace().parent is None


@pytest.mark.parametrize("text", ["vm", "vm/", "disk/1", "vm/1/2", "", "/", "VM/1"])
def test_what_is_no_group_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        GroupId.parse(text)


def test_groups_sort_by_type_then_number_then_text() -> None:
    texts = ["ct/9", "ct/10", "ct/9a", "host/a", "vm/0", "vm/18446744073709551615", "vm/00a"]
    larger = "vm/18446744073709551616"  # no 64-bit number any more: text

    groups = [GroupId.parse(text) for text in reversed([*texts, larger])]

    assert [str(group) for group in sorted(groups, key=lambda group: group.sort_key)] == [
        *texts[:-1],
        "vm/00a",
        larger,
    ]


def test_digest_has_64_hex_digits() -> None:
    assert parse_digest("ab" * 32) == b"\xab" * 32
    for text in ("ab" * 31, "ab" * 33, "gg" * 32, "ab " * 21 + "0", ""):
        with pytest.raises(BadRequest):
            parse_digest(text)
