"""`holdfast doctor`: what is or will be wrong, and what to do about it."""

from argparse import ArgumentParser, Namespace
from typing import Final

from holdfast.cli import plain_text
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK, EXIT_WARNINGS, DamagedData, HoldfastError
from holdfast.operations.doctor import DoctorRequest, examine
from holdfast.operations.findings import Finding, Level

_EXIT: Final = {
    Level.GOOD: EXIT_OK,
    Level.WARNING: EXIT_WARNINGS,
    Level.PROBLEM: HoldfastError.exit_code,
    Level.DAMAGE: DamagedData.exit_code,
}
_STYLE: Final = {
    Level.GOOD: "good",
    Level.WARNING: "warning",
    Level.PROBLEM: "bad",
    Level.DAMAGE: "bad",
}


def add_arguments(parser: ArgumentParser) -> None:
    """None of its own; --store limits it to one."""
    del parser


def run(args: Namespace, console: Console) -> int:
    """Look and tell; the exit code is that of the worst finding."""
    request = DoctorRequest(config=args.config, state_directory=args.state_dir, store=args.store)
    with console.progress() as progress:
        findings = examine(request, progress)
    if args.json:
        console.document(
            {
                "findings": [_as_json(finding) for finding in findings],
                **{
                    f"{level.value}_count": sum(finding.level is level for finding in findings)
                    for level in Level
                },
            }
        )
    else:
        for finding in findings:
            if finding.level is not Level.GOOD or not console.is_quiet:
                _print(finding, console)
    order = list(Level)
    worst = max((finding.level for finding in findings), key=order.index, default=Level.GOOD)
    return _EXIT[worst]


def _print(finding: Finding, console: Console) -> None:
    mark = console.styled(f"{finding.level.value:<8}", _STYLE[finding.level])
    message = plain_text.harmless(finding.message)
    console.data(f"{mark} {plain_text.harmless(finding.area)}: {message}")
    if finding.advice and finding.level is not Level.GOOD:
        console.data(f"{'':<8}   {plain_text.harmless(finding.advice)}")


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "level": finding.level.value,
        "area": finding.area,
        "message": finding.message,
        "advice": finding.advice,
    }
