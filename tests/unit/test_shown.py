import pytest

from holdfast.shown import printable, printable_text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("Grüße 日本 🎉".encode(), "Grüße 日本 🎉"),
        (b"two\nlines", r"two\nlines"),
        (b"\x1b[31mred\x1b[0m\x07", r"\x1b[31mred\x1b[0m\x07"),
        ("exe\u202egpj.cod".encode(), r"exe\u202egpj.cod"),
        ("zero\u200bwidth".encode(), r"zero\u200bwidth"),
        (b"latin-\xe9\xff", r"latin-\xe9\xff"),
        (rb"back\slash", r"back\\slash"),
        ("c1\u0085\u009b".encode(), r"c1\x85\x9b"),
        (b"", ""),
    ],
)
def test_names_are_shown_without_their_effects(name: bytes, shown: str) -> None:
    assert printable(name) == shown
    assert printable(name).isprintable()


def test_two_different_names_never_look_the_same() -> None:
    assert printable(b"a\nb") != printable(rb"a\nb")
    assert printable(b"\xff") != printable("\xff".encode())
    assert printable_text("a\x1b") == r"a\x1b"
