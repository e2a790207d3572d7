"""RESULTS.md, section by section: each bench fills in its own and leaves the others alone.

    python -m bench.NAME | python -m bench.page "Heading" "the command, as people would type it"

What comes on standard input becomes the section `## Heading`, with the date, the load and the command.
"""

import datetime as dt
import os
import sys
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).with_name("RESULTS.md")


def put(page: Path, heading: str, body: str) -> None:
    """Replace the section under `## heading`, or add it at the end."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# Measured\n"
    before, found, rest = f"\n{text}".partition(f"\n## {heading}\n")
    _old, following, after = rest.partition("\n## ")
    section = f"\n## {heading}\n\n{body.strip()}\n"
    if not found:
        page.write_text(text.rstrip("\n") + "\n" + section, encoding="utf-8")
        return
    page.write_text(
        before.removeprefix("\n").rstrip("\n") + "\n" + section + following + after,
        encoding="utf-8",
    )


def taken(command: str) -> str:
    """When, how busy the machine was, and how to take it again."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"`{command}`, {now}, load {os.getloadavg()[0]:.1f}."


def main() -> None:
    heading, command = sys.argv[1:3]
    body = sys.stdin.read()
    if not body.strip():
        sys.exit("nothing came in: the bench failed, and the page stays as it is")
    put(RESULTS, heading, f"{taken(command)}\n\n{body}")


if __name__ == "__main__":
    main()
