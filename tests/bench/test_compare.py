"""bench/: corpora are the same for the same seed, tables say what was measured."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.measure import Figure, Run
from tests.harness.places import quick_directory

from bench import compare, corpora, floor, measure


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as path:
        yield path


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        hasher.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return hasher.hexdigest()


def test_the_same_seed_makes_the_same_tree(tmp_path: Path) -> None:
    for name in ("a", "b"):
        corpora.make_small_files(tmp_path / name, files=50, seed=7)
        corpora.make_mixed_files(tmp_path / name / "large", total_bytes=3 << 20, seed=8)
    corpora.make_small_files(tmp_path / "c", files=50, seed=9)

    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")
    assert len([path for path in (tmp_path / "c").rglob("*") if path.is_file()]) == 50
    assert _digest(tmp_path / "a") != _digest(tmp_path / "c")


def test_an_image_has_holes_and_the_wanted_size(tmp_path: Path) -> None:
    corpora.make_image(tmp_path / "i", total_bytes=40 << 20, seed=3)

    info = (tmp_path / "i").stat()
    assert info.st_size == 40 << 20
    assert 0.4 < info.st_blocks * 512 / info.st_size < 0.95
    assert floor.floor_s(tmp_path / "i") > 0
    assert floor.floor_s(tmp_path, tmp_path) > 0


def test_a_measured_program_is_not_charged_with_our_memory() -> None:
    ours = bytearray(200 << 20)

    run = measure.run(["true"], env={})

    assert len(ours) > run.rss_bytes * 10
    with pytest.raises(measure.ProgramFailed, match="exit code 1"):
        measure.run(["false"], env={})


def test_the_table_has_ratios_and_an_older_run_to_compare_with() -> None:
    def row(tool: str, *seconds: float) -> compare.Row:
        runs = [Run(wall_s=wall, cpu_s=wall, rss_bytes=50 << 20) for wall in seconds]
        return compare.Row(corpus="small", step="verify", tool=tool, figure=Figure.of(runs))

    report = compare.Report({"machine": "a"}, [row("restic", 4, 5, 9), row("holdfast", 2, 2, 3)])
    old = {"rows": [{"corpus": "small", "step": "verify", "tool": "holdfast"}]}
    old["rows"][0]["figure"] = {"median_s": 4.0}  # type: ignore[assignment]

    table = compare.as_markdown(report, "python -m bench.compare")

    assert "| small | verify | holdfast | 2.00 | 1.00 | 2.00 | 50 | 1.00 |" in table
    assert "| small | verify | restic | 5.00 | 5.00 | 5.00 | 50 | 2.50 |" in table
    assert compare.differences(report, old) == ["small verify holdfast: 4.00 s -> 2.00 s (-50%)"]  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_comparison_runs_at_toy_size(place: Path) -> None:
    results, figures = place / "r.md", place / "r.json"
    words = ["--scale", "toy", "--runs", "1", "--work", str(place)]

    compare.main([*words, "--results", str(results), "--json", str(figures)])

    rows = json.loads(figures.read_text())["rows"]
    tools = {row["tool"] for row in rows}
    assert tools == {"holdfast", "restic", "borg", "floor"}
    assert len(rows) == 3 * 3 * len(compare.STEPS) + 3 + 1
    assert re.search(r"\| image \| first backup \| floor \|", results.read_text())
