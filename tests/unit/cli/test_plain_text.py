"""holdfast.cli.plain_text."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli import plain_text
from holdfast.units import GIB, KIB, MIB


def test_an_escape_sequence_in_a_name_is_shown_instead_of_obeyed() -> None:
    assert plain_text.harmless("a\x1b]0;owned\x07b\n") == "a\\x1b]0;owned\\x07b\\n"


def test_a_name_that_reverses_the_direction_of_writing_is_escaped() -> None:
    assert plain_text.harmless("cod\u202etxt.exe") == "cod\\u202etxt.exe"


def test_bytes_that_are_no_utf8_are_shown_as_hex() -> None:
    assert plain_text.harmless(b"caf\xe9 \xc3\xa9") == "caf\\xe9 é"


def test_ordinary_letters_of_all_languages_stay() -> None:
    assert plain_text.harmless("Größe 日本語 naïve") == "Größe 日本語 naïve"


@given(st.binary(max_size=40))
def test_no_bytes_at_all_produce_a_character_that_is_not_plainly_visible(name: bytes) -> None:
    shown = plain_text.harmless(name)

    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_no_character_of_unicode_is_harmful_and_shown() -> None:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    harmful = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in kinds]

    assert not [letter for letter in harmful if letter in plain_text.harmless(f"{letter}\u00e9")]


def test_sizes_have_at_most_three_digits_that_matter() -> None:
    sizes = (0, 1023, KIB, 1536, 200 * MIB, int(1.5 * GIB))

    assert [plain_text.size_text(size) for size in sizes] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "200 MiB",
        "1.5 GiB",
    ]


def test_spans_choose_the_unit_a_person_would() -> None:
    spans = (0.25, 42, 187, 7500, 273_600)

    assert [plain_text.span_text(span) for span in spans] == [
        "0.2 s",
        "42 s",
        "3:07 min",
        "2:05 h",
        "3 d 4 h",
    ]


def test_columns_align_and_leave_no_blanks_at_the_end() -> None:
    rows = [("name", "size"), ("a", "5"), ("long name", "12345")]

    assert plain_text.columns(rows, right=frozenset({1})) == [
        "name        size",
        "a              5",
        "long name  12345",
    ]
