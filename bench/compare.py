"""Question: how long do holdfast, restic and borg take for the same work on the same data?

    python -m bench.compare [--scale full|toy] [--runs 3] [--only small,mixed,image] [--json FILE]

Corpora (seeded, see corpora.py): many small files, large mixed files, a disk image with holes; with
`--only share,...` also a copy of this machine's /usr/share, as an example of real small files.
Steps: first backup into an empty repository; a second one with nothing changed; a restore; a check
of every stored byte; a garbage collection. The tools take turns within every run, each in turn the
first, page caches are warm (the corpus is read once before each first backup), making the repository
is not counted, and what earlier steps left to write is flushed before each step, so that nobody pays
for another. There is also the floor: the same bytes through sha256 and zstd-1 on two threads, nothing
written.
"""

import argparse
import dataclasses
import datetime as dt
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import corpora, floor, tools
from bench.measure import Figure, Run
from bench.page import RESULTS, put

MIB: Final = 1 << 20
STEPS: Final = ("first backup", "second backup", "restore", "verify", "gc")
CORPORA: Final = ("small", "mixed", "image")
HEADING: Final = "Files and images, next to restic and borg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step on one corpus with one tool."""

    corpus: str
    step: str
    tool: str
    figure: Figure


@dataclass(slots=True)
class Report:
    """Everything that was measured, and on what."""

    facts: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    def median_s(self, corpus: str, step: str, tool: str) -> float | None:
        for row in self.rows:
            if (row.corpus, row.step, row.tool) == (corpus, step, tool):
                return row.figure.median_s
        return None


def main(words: list[str] | None = None) -> int:
    """Measure and write; 0, or 1 when a tool failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", choices=("full", "toy"), default="full")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(CORPORA), help="corpora, with commas")
    parser.add_argument("--tools", default="holdfast,restic,borg", help="with commas")
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary directory)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table goes")
    parser.add_argument("--against", type=Path, metavar="OLD.json", help="show what changed")
    args = parser.parse_args(words)
    work = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=args.work))
    try:
        report = _measure(args, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    command = " ".join(["python -m bench.compare", *(sys.argv[1:] if words is None else words)])
    put(args.results, HEADING, as_markdown(report, command))
    if args.json:
        args.json.write_text(json.dumps(dataclasses.asdict(report), indent=1), encoding="utf-8")
    print(as_markdown(report, command))
    if args.against:
        print("\n".join(differences(report, json.loads(args.against.read_text()))))
    return 0


def _measure(args: argparse.Namespace, work: Path) -> Report:
    scale = corpora.FULL if args.scale == "full" else corpora.TOY
    chosen = [tool(work) for tool in tools.TOOLS if tool.name in args.tools.split(",")]
    report = Report(machine_facts(chosen, args.scale))
    for corpus in args.only.split(","):
        _say(f"{corpus}: making it")
        source = _make(corpus, scale, work)
        runs: dict[tuple[str, str], list[Run]] = {}
        for number in range(args.runs):
            first = number % len(chosen)  # to be the first may have a price
            for tool in chosen[first:] + chosen[:first]:
                _one_round(tool, source, work / f"{corpus}-restored", runs)
                _say(f"{corpus}: run {number + 1} of {args.runs}, {tool.name} done")
            seconds = floor.floor_s(source, work)
            runs.setdefault(("first backup", "floor"), []).append(
                Run(wall_s=seconds, cpu_s=0, rss_bytes=0)
            )
        for (step, name), done in runs.items():
            report.rows.append(Row(corpus=corpus, step=step, tool=name, figure=Figure.of(done)))
        _remove(source)
    for tool in chosen:
        if isinstance(tool, tools.Holdfast):
            starts = [tool.start_up() for _number in range(10)]
            report.rows.append(
                Row(corpus="-", step="version", tool=tool.name, figure=Figure.of(starts))
            )
    return report


def _make(corpus: str, scale: corpora.Scale, work: Path) -> Path:
    source = work / f"{corpus}-source"
    if corpus == "small":
        corpora.make_small_files(source, files=scale.small_files)
    elif corpus == "share":
        subprocess.run(["cp", "-a", "/usr/share", str(source)], check=True)
    elif corpus == "mixed":
        corpora.make_mixed_files(source, total_bytes=scale.mixed_bytes)
    elif corpus == "image":
        source = source.with_suffix(".img")
        corpora.make_image(source, total_bytes=scale.image_bytes)
    else:
        raise SystemExit(f"there is no corpus {corpus}; known are share, {', '.join(CORPORA)}")
    return source


def _warm(source: Path) -> None:
    """Bring the corpus into the page cache."""
    for path in _files(source):
        with path.open("rb") as file:
            while file.read(MIB):
                pass


def _files(source: Path) -> Iterable[Path]:
    return [source] if source.is_file() else (path for path in source.rglob("*") if path.is_file())


def _one_round(
    tool: tools.Tool, source: Path, target: Path, runs: dict[tuple[str, str], list[Run]]
) -> None:
    """Every step once, in an empty repository."""
    tool.start_over()
    _remove(target)
    target.mkdir()
    actions: dict[str, Callable[[], Run]] = {
        "first backup": lambda: tool.backup(source),
        "second backup": lambda: tool.backup(source),
        "restore": lambda: tool.restore(target),
        "verify": tool.verify,
        "gc": tool.gc,
    }
    for step in STEPS:
        if step == "first backup":
            _warm(source)
        elif step == "second backup":
            _wait_for_the_next_second()
        os.sync()
        runs.setdefault((step, tool.name), []).append(actions[step]())
    _remove(target)
    _remove(tool.repository)


def _wait_for_the_next_second() -> None:
    """Snapshots are named by the second they begin in."""
    start = int(dt.datetime.now(dt.UTC).timestamp())
    while int(dt.datetime.now(dt.UTC).timestamp()) <= start:
        os.sched_yield()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def machine_facts(chosen: list[tools.Tool], scale: str) -> dict[str, str]:
    """What a reader has to know to believe the figures."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, {model}, {memory // (1 << 30)} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
        "scale": scale,
        "versions": ", ".join(tool.version() for tool in chosen),
    }


def as_markdown(report: Report, command: str) -> str:
    """The table people read: medians, spread, memory, and how many times as long the peers take."""
    lines = [f"`{command}`", ""]
    lines += [f"- {name}: {value}" for name, value in report.facts.items()]
    lines += [
        "- small: many small files; mixed: large files; image: a disk image, 30 % holes;",
        "  share: a copy of this machine's /usr/share, real small files",
        "- before each step what earlier ones left to write is flushed; before each first backup the",
        "  corpus is read once",
        "- time: median of the runs, then largest less smallest; memory: largest process",
        "- ratio: the tool's median divided by holdfast's, so above 1 holdfast is faster",
        "",
        "| corpus | step | tool | median s | spread s | CPU s | memory MiB | ratio |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(report.rows, key=_row_order):
        own = report.median_s(row.corpus, row.step, "holdfast")
        ratio = f"{row.figure.median_s / own:.2f}" if own else ""
        figure = row.figure
        memory = f"{figure.rss_bytes / MIB:.0f}" if figure.rss_bytes else ""
        lines.append(
            f"| {row.corpus} | {row.step} | {row.tool} | {figure.median_s:.2f} |"
            f" {figure.spread_s:.2f} | {figure.cpu_s:.2f} | {memory} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def _row_order(row: Row) -> tuple[int, int, str]:
    corpus = CORPORA.index(row.corpus) if row.corpus in CORPORA else len(CORPORA)
    step = STEPS.index(row.step) if row.step in STEPS else len(STEPS)
    order = {"holdfast": "0", "floor": "3"}.get(row.tool, f"1{row.tool}")
    return corpus, step, order


def differences(report: Report, old: dict[str, list[dict[str, object]]]) -> list[str]:
    """One line per row that an older run has as well."""
    before = {
        (row["corpus"], row["step"], row["tool"]): row["figure"]["median_s"]  # type: ignore[index]
        for row in old["rows"]
    }
    lines = []
    for row in report.rows:
        then = before.get((row.corpus, row.step, row.tool))
        if isinstance(then, float) and then > 0:
            now = row.figure.median_s
            lines.append(
                f"{row.corpus} {row.step} {row.tool}: {then:.2f} s -> {now:.2f} s"
                f" ({(now - then) / then:+.0%})"
            )
    return lines


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
