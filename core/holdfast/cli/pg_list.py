"""`holdfast pg list`: base backups, and the windows of time that can be recovered to."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from holdfast.cli import pg_cluster, plain_text, selection
from holdfast.errors import EXIT_OK

if TYPE_CHECKING:
    from holdfast.cli.console import Console
    from holdfast.operations.pg_view import BaseSeen, ClusterStatus, History


def add_arguments(parser: ArgumentParser) -> None:
    pg_cluster.add_arguments(parser)


def run(args: Namespace, console: "Console") -> int:
    with pg_cluster.opened_stage(args) as stage:
        store = selection.open_to_read(args)
        status = pg_cluster.status_of(args, store, stage)
    if args.json:
        console.document(record(status))
        return EXIT_OK
    show(status, console)
    return EXIT_OK


def show(status: "ClusterStatus", console: "Console") -> None:
    """A table of bases, then a line for each thing that can be recovered."""
    rows: list[tuple[str, ...]] = [
        ("BASE BACKUP", "KIND", "TIMELINE", "CONSISTENT AT", "DRILL", "BUILDS ON")
    ]
    rows += [_row(base) for base in status.bases]
    console.lines(rows)
    for line in window_lines(status):
        console.data(line)


def _row(base: "BaseSeen") -> tuple[str, ...]:
    from holdfast.ids import epoch_to_name

    return (
        str(base.snapshot),
        base.kind,
        str(base.position.timeline),
        epoch_to_name(base.position.stop_s),
        "never" if base.proof is None else plain_text.harmless(" ".join(reversed(base.proof))),
        base.parent or "",
    )


def window_lines(status: "ClusterStatus") -> list[str]:
    """One line for each history and timeline that something can be recovered of."""
    from holdfast.operations.pg_view import describe

    lines = []
    present = status.histories[-1] if status.histories else None
    for history in status.histories:
        for timeline in sorted({one.timeline for one in history.windows}):
            mine = [one for one in history.windows if one.timeline == timeline]
            lines.append(f"{_which(history, present)}timeline {timeline}: {describe(mine)}")
    return lines or ["nothing can be recovered"]


def _which(history: "History", present: "History | None") -> str:
    return "" if history is present else f"history {history.generation}, "


def record(status: "ClusterStatus") -> dict[str, Any]:
    """The JSON of a cluster."""
    from holdfast.ids import epoch_to_name
    from holdfast.postgres.wal_names import format_lsn, segment_name

    return {
        "cluster": status.cluster,
        "bases": [
            {
                "snapshot": str(base.snapshot),
                "kind": base.kind,
                "parent": base.parent,
                "chain": list(base.chain),
                "timeline": base.position.timeline,
                "start_lsn": format_lsn(base.position.start_lsn),
                "stop_lsn": format_lsn(base.position.stop_lsn),
                "consistent_at": epoch_to_name(base.position.stop_s),
                "generation": base.generation,
                "drill": (
                    None if base.proof is None else {"time": base.proof[0], "result": base.proof[1]}
                ),
            }
            for base in status.bases
        ],
        "windows": [
            {
                "generation": history.generation,
                "timeline": window.timeline,
                "from": epoch_to_name(window.from_s),
                "until": epoch_to_name(window.until_s),
                "bases": list(window.bases),
                "missing": (
                    None
                    if window.missing is None
                    else segment_name(*window.missing, status.segment_bytes)
                ),
            }
            for history in status.histories
            for window in history.windows
        ],
    }
