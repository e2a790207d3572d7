from argparse import ArgumentTypeError

import pytest

from holdfast.cli.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("24h5m", 86_700),
        ("1d 1h", 90_000),
        ("2W", 1_209_600),
    ],
)
def test_spans_are_understood(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "5x", "-5", "5m-", "1.5h", "٣", "9" * 12])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="span of time"):
        seconds(text)
