"""The `holdfast` command."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    print("no commands yet:", *(arguments or sys.argv[1:]), file=sys.stderr)  # noqa: T201
    return 2


def entry() -> None:
    """Console script."""
    sys.exit(main())
