"""The registry of keys keeps its promises."""

import string

from holdfast_tui import keymap


def test_capitals_change_something_and_nothing_else_does() -> None:
    wrong = [
        key.id
        for table in keymap.TABLES.values()
        for key in table
        for name in key.keys.split(",")
        if (name in string.ascii_uppercase and name not in keymap.HARMLESS_CAPITALS) != key.mutates
    ]

    assert wrong == []


def test_ids_are_unique_and_belong_to_their_table() -> None:
    ids = [key.id for table in keymap.TABLES.values() for key in table]

    assert len(ids) == len(set(ids))
    assert [
        key.id for name, table in keymap.TABLES.items() for key in table if key.view != name
    ] == []


def test_no_key_means_two_things_in_one_table() -> None:
    for name, table in keymap.TABLES.items():
        names = [key for entry in table for key in entry.keys.split(",")]
        assert len(names) == len(set(names)), name


def test_a_view_does_not_take_keys_that_every_list_has() -> None:
    everywhere = {name for key in (*keymap.TABLES["app"],) for name in key.keys.split(",")}
    for view in ("dashboard", "snapshots", "tasks", "verify", "schedules", "stores", "dedup"):
        own = {name for key in keymap.TABLES[view] for name in key.keys.split(",")}
        assert own & everywhere == set(), view


def test_every_key_is_explained() -> None:
    assert [key.id for table in keymap.TABLES.values() for key in table if len(key.help) < 8] == []


def test_the_read_only_gate_leaves_no_key_that_changes_something() -> None:
    gate = keymap.Gate(read_only="for a test")

    left = [key for key in keymap.allowed(gate, keymap.TABLES) if key.mutates]

    assert left == []
