"""Paper keys: a key file or an RSA private key as text and QR codes that outlive every disk.

    [subject and an empty line]
    -----BEGIN PROXMOX BACKUP KEY-----
    the key file as indented JSON
    -----END PROXMOX BACKUP KEY-----
and a QR code of exactly these three parts. A PEM key is cut into numbered stretches of lines, each
with a QR code of its own. Source: Proxmox Backup client, "paper key". Story: docs/formats/keys.md
"""

import html
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from holdfast.datastore.key_files import KEY_FILE_BYTES_MAX, KeyFile
from holdfast.errors import BadRequest, DamagedData

BEGIN: Final = "-----BEGIN PROXMOX BACKUP KEY-----"
END: Final = "-----END PROXMOX BACKUP KEY-----"
TEXT_LINES_PER_CODE: Final = 5
HTML_LINES_PER_CODE: Final = 20
QUIET_MODULES: Final = 4
_BLOCKS: Final = (" ", "▄", "▀", "█")  # upper module * 2 + lower module, dark = 1


class PaperFormat(StrEnum):
    TEXT = "text"
    HTML = "html"


def paper_key(key_file: KeyFile, *, subject: str | None, form: PaperFormat) -> str:
    """A key file to be printed."""
    body = json.dumps(key_file.to_json(), indent=2, ensure_ascii=False)
    lines = [BEGIN, *body.splitlines(), END]
    return _printed([lines], subject, form)


def paper_pem(pem: str, *, subject: str | None, form: PaperFormat) -> str:
    """An RSA private key (PEM) to be printed (BadRequest when it is none)."""
    lines = pem.strip().splitlines()
    if not lines or "PRIVATE KEY-----" not in lines[0] or not lines[-1].startswith("-----END"):
        raise BadRequest("this is no private key in PEM form")
    step = TEXT_LINES_PER_CODE if form is PaperFormat.TEXT else HTML_LINES_PER_CODE
    return _printed([lines[at : at + step] for at in range(0, len(lines), step)], subject, form)


def import_paper_key(text: str) -> KeyFile:
    """Read back what was printed, scanned or typed in; what surrounds the markers is passed over.

    Raises:
        BadRequest: no markers, or too much between them.
        DamagedData: what is between them is no key file.
    """
    lines = [line.strip() for line in text.splitlines()]
    try:
        begin = lines.index(BEGIN)
        end = lines.index(END, begin)
    except ValueError as error:
        raise BadRequest(f"no key here: it begins with {BEGIN} and ends with {END}") from error
    body = "\n".join(lines[begin + 1 : end])
    try:
        encoded = body.encode()
    except UnicodeEncodeError as error:
        raise DamagedData("the paper key", "it holds a letter that has no UTF-8 form") from error
    if len(encoded) > KEY_FILE_BYTES_MAX:
        raise BadRequest("that is far too long for a key")
    return KeyFile.decode(encoded)


def qr_rows(text: str) -> list[list[bool]]:
    """A QR code with low error correction and its quiet zone, True for dark (BadRequest)."""
    import segno

    try:
        code = segno.make_qr(text, error="l", boost_error=False)
    except segno.DataOverflowError as error:
        raise BadRequest("that is too long for a QR code") from error
    matrix = code.matrix_iter(scale=1, border=QUIET_MODULES)
    return [[bool(module) for module in row] for row in matrix]


def qr_text(text: str) -> str:
    """The QR code in block letters, two rows of modules per line."""
    rows = qr_rows(text)
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join(
        "".join(_BLOCKS[2 * upper + lower] for upper, lower in zip(first, second, strict=True))
        for first, second in pairs
    )


def qr_svg(text: str) -> str:
    """The QR code as an SVG element: one path of unit squares, run together along the rows."""
    rows = qr_rows(text)
    path = "".join(
        f"M{start} {y}h{end - start}v1h{start - end}z"
        for y, row in enumerate(rows)
        for start, end in _runs(row)
    )
    size = len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" '
        f'shape-rendering="crispEdges"><rect width="{size}" height="{size}" fill="#fff"/>'
        f'<path d="{path}"/></svg>'
    )


def _runs(row: list[bool]) -> Iterator[tuple[int, int]]:
    start = None
    for x, is_dark in enumerate([*row, False]):
        if is_dark and start is None:
            start = x
        elif not is_dark and start is not None:
            yield start, x
            start = None


def _printed(blocks: list[list[str]], subject: str | None, form: PaperFormat) -> str:
    numbered = len(blocks) > 1
    if form is PaperFormat.HTML:
        return _html(blocks, subject, numbered=numbered)
    out = [f"{subject}\n"] if subject else []
    number = 0
    for block in blocks:
        if numbered:
            out += [f"{number + at:02}: {line}" for at, line in enumerate(block)]
            number += len(block)
        else:
            out += block
        out += ["", qr_text("\n".join(block)), ""]
    return "\n".join(out)


def _html(blocks: list[list[str]], subject: str | None, *, numbered: bool) -> str:
    title = html.escape(subject or "Encryption key")
    parts = []
    number = 0
    for block in blocks:
        shown = [f"{number + at:02}: {line}" if numbered else line for at, line in enumerate(block)]
        number += len(block)
        text = html.escape("\n".join(shown))
        code = qr_svg("\n".join(block))
        parts.append(f"<section><pre>{text}</pre><div>{code}</div></section>")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>'
        "\n<style>section{break-inside:avoid}pre{font-size:9pt}svg{width:12cm}</style>\n</head>"
        f"\n<body>\n<h1>{title}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )
