"""holdfast.config.toml_source."""

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.config import toml_source
from holdfast.errors import BadRequest


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


TEXT = b"""# a comment
title = "x"

[stores.local]   # here
path = "/srv"
size = 3
"odd key" = true

[[hooks]]
run = ["a", "b"]
"""


def _source() -> toml_source.TomlSource:
    return toml_source.parse("c.toml", TEXT)


def test_knows_the_line_of_every_key() -> None:
    source = _source()

    assert source.line_of(("title",)) == 2
    assert source.line_of(("stores", "local")) == 4
    assert source.line_of(("stores", "local", "size")) == 6
    assert source.line_of(("stores", "local", "odd key")) == 7
    assert source.line_of(("stores", "local", "missing")) == 4
    assert source.line_of(("nowhere",)) is None


def test_broken_toml_is_reported_with_its_line() -> None:
    with pytest.raises(BadRequest, match=r"c\.toml, line 2: "):
        toml_source.parse("c.toml", b"a = 1\nb = \n")


def test_text_that_is_no_utf8_is_reported_with_its_line() -> None:
    with pytest.raises(BadRequest, match="line 3: not UTF-8"):
        toml_source.parse("c.toml", b'a = 1\n\nb = "\xff"\n')


def test_a_wrong_kind_of_value_says_what_is_wanted() -> None:
    section = _source().root.table("stores").table("local")

    with pytest.raises(BadRequest, match=r"line 6: size should be text in quotes.*not 3"):
        section.text("size")
    with pytest.raises(BadRequest, match="line 5: path should be true or false"):
        section.flag("path", default=False)
    with pytest.raises(BadRequest, match="line 5: path should be a whole number"):
        section.integer("path")
    with pytest.raises(BadRequest, match="line 7: odd key should be a whole number"):
        section.integer("odd key")
    with pytest.raises(BadRequest, match="size should be a whole number from 0 to 2"):
        section.integer("size", high=2)


def test_missing_values_take_their_defaults() -> None:
    section = _source().root

    assert section.text("a") is None
    assert section.texts("a") == ()
    assert section.integer("a") is None
    assert section.flag("a", default=True)
    assert section.choice("a", Colour, default=Colour.RED) is Colour.RED
    assert section.table("a").values == {}


def test_a_mistyped_choice_gets_a_suggestion() -> None:
    section = toml_source.parse("c.toml", b'colour = "gren"').root

    with pytest.raises(BadRequest, match="none of red, green") as caught:
        section.choice("colour", Colour, default=Colour.RED)
    assert caught.value.hint == "did you mean 'green'?"


def test_a_mistyped_key_gets_a_suggestion() -> None:
    section = toml_source.parse("c.toml", b'[s]\npaht = "/srv"').root.table("s")
    section.text("path")

    with pytest.raises(BadRequest, match=r"line 2: 'paht' means nothing in \[s\]") as caught:
        section.refuse_unknown()
    assert caught.value.hint == "did you mean 'path'?"


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(raw: bytes) -> None:
    try:
        source = toml_source.parse("c.toml", raw)
    except BadRequest:
        return
    assert source.data is not None
