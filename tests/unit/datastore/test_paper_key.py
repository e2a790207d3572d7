"""Paper keys: what is printed can be typed in again, and the codes hold the same bytes."""

import re

import pytest
import segno

from holdfast.datastore import paper_key
from holdfast.datastore.key_files import KdfName, KeyFile
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.paper_key import BEGIN, END, PaperFormat
from holdfast.errors import BadRequest, DamagedData

KEY_FILE = KeyFile.protect(
    EncryptionKey(bytes(range(32))), b"correct horse", kdf=KdfName.PBKDF2, hint="grün & <leise>"
)
PEM = "\n".join(
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        *("A" * 64 for _ in range(48)),
        "-----END RSA PRIVATE KEY-----",
    ]
)
LETTERS = {" ": (False, False), "▄": (False, True), "▀": (True, False), "█": (True, True)}


def _modules_of(block: str) -> list[list[bool]]:
    rows: list[list[bool]] = []
    for line in block.split("\n"):
        rows.append([LETTERS[letter][0] for letter in line])
        rows.append([LETTERS[letter][1] for letter in line])
    return rows


def _wanted(text: str) -> list[list[bool]]:
    code = segno.make_qr(text, error="l", boost_error=False)
    return [[bool(module) for module in row] for row in code.matrix_iter(border=4)]


@pytest.mark.parametrize("form", list(PaperFormat))
def test_printed_key_is_read_back(form: PaperFormat) -> None:
    printed = paper_key.paper_key(KEY_FILE, subject="Server room, shelf 3", form=form)

    if form is PaperFormat.HTML:
        printed = re.sub("<[^>]*>", "\n", printed)
        printed = printed.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">")
        printed = printed.replace("&amp;", "&")
    assert "Server room, shelf 3" in printed
    assert paper_key.import_paper_key(printed) == KEY_FILE


def test_code_beside_the_text_holds_exactly_the_lines_between_the_markers() -> None:
    printed = paper_key.paper_key(KEY_FILE, subject=None, form=PaperFormat.TEXT)

    text, _, block = printed.partition(f"{END}\n\n")
    shown = _modules_of(block.rstrip("\n"))
    wanted = _wanted(text + END)
    assert text.startswith(BEGIN)
    assert shown[: len(wanted)] == wanted
    assert not any(any(row) for row in shown[len(wanted) :])


def test_drawing_covers_exactly_the_dark_modules() -> None:
    drawing = paper_key.qr_svg("hello")
    wanted = _wanted("hello")

    painted = [[False] * len(wanted) for _ in wanted]
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", drawing):
        for column in range(int(x), int(x) + int(width)):
            painted[int(y)][column] = True
    assert painted == wanted


@pytest.mark.parametrize(("form", "lines"), [(PaperFormat.TEXT, 5), (PaperFormat.HTML, 20)])
def test_rsa_key_is_cut_into_numbered_stretches(form: PaperFormat, lines: int) -> None:
    printed = paper_key.paper_pem(PEM, subject=None, form=form)

    stretches = -(-50 // lines)
    if form is PaperFormat.HTML:
        assert printed.count("<svg") == stretches
    else:
        first = "\n".join(PEM.split("\n")[:lines])
        assert paper_key.qr_text(first) in printed
    for number, line in enumerate(PEM.split("\n")):
        assert f"{number:02}: {line}" in printed


def test_what_is_no_private_key_is_not_printed_as_one() -> None:
    for text in ("", "hello", "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----"):
        with pytest.raises(BadRequest):
            paper_key.paper_pem(text, subject=None, form=PaperFormat.TEXT)


def test_subject_cannot_smuggle_markup_into_the_page() -> None:
    printed = paper_key.paper_key(
        KEY_FILE, subject="<script>alert(1)</script>", form=PaperFormat.HTML
    )

    assert "<script>" not in printed


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{'x' * 70_000}\n{END}"])
def test_text_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        paper_key.import_paper_key(text)


def test_misread_key_is_damage() -> None:
    printed = paper_key.paper_key(KEY_FILE, subject=None, form=PaperFormat.TEXT)

    with pytest.raises(DamagedData):
        paper_key.import_paper_key(printed.replace('"data"', '"date"'))


def test_text_too_long_for_a_code_is_refused() -> None:
    with pytest.raises(BadRequest):
        paper_key.qr_text("x" * 5000)
