"""Text for the screen: harmless, of the right width, short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_tui.model.query import Query, seconds_of
from holdfast_tui.render import clean, fmt
from holdfast_tui.render.look import ASCII, Look, Mark

ANY = st.text(max_size=40)


@given(ANY)
def test_nothing_that_drives_a_terminal_passes(text: str) -> None:
    assert clean.clean(text).isprintable()


@given(ANY, st.integers(0, 30))
def test_fitted_text_has_exactly_its_width(text: str, width: int) -> None:
    harmless = clean.clean(text)
    for fitted in (clean.fit, clean.fit_right, clean.fit_middle, clean.fit_path):
        assert clean.width_of(fitted(harmless, width)) == width


@given(ANY)
def test_ascii_only_is_ascii(text: str) -> None:
    assert clean.ascii_only(clean.clean(text)).isascii()


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 40, "5.0 TiB"),
        (1023 << 20, "1.0 GiB"),
        (200 << 30, "200 GiB"),
        (None, "-"),
    ],
)
def test_sizes(amount: int | None, shown: str) -> None:
    assert fmt.size(amount) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(5, "5 s"), (600, "10 min"), (7 * 3600, "7 h"), (3 * 86400, "3 d"), (100 * 86400, "14 w")],
)
def test_ages(seconds: float, shown: str) -> None:
    assert fmt.age(seconds) == shown


@pytest.mark.parametrize("part", [None, 0.0, 0.003, 0.5, 0.999, 1.0, 7.0])
@pytest.mark.parametrize("look", [ASCII, Look()])
def test_a_bar_has_exactly_its_width(part: float | None, look: Look) -> None:
    full, empty = look.bar(part, 17)

    assert clean.width_of(full + empty) == 17


def test_ascii_marks_and_graphs_are_ascii() -> None:
    assert all(ASCII.mark(mark).isascii() for mark in Mark)
    assert "".join(ASCII.graph([1, 5, 2], 5, 3)).isascii()
    assert ASCII.columns([1, 2, 3], 5).isascii()


def test_filters() -> None:
    row = {"kind": "verify", "state": "failed", "target": "host/web1"}

    assert Query.parse("web failed").matches(row)
    assert Query.parse("kind:verify -ok").matches(row)
    assert not Query.parse("-kind:verify").matches(row)
    assert not Query.parse("kind:gc").matches(row)
    assert Query.parse("since:2d").matches(row, age_s=86400)
    assert not Query.parse("since:2h").matches(row, age_s=86400)
    assert Query.parse('"half a quote').matches({"a": '"half a quote'})
    assert Query.parse("kind:").matches(row)


def test_spans_of_filters() -> None:
    assert [seconds_of(text) for text in ("2d", "90m", "3", "x")] == [172800, 5400, 259200, None]
