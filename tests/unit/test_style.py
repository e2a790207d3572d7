"""Rules of the project that linters cannot measure. The lists of exceptions may only shrink."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import holdfast

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("core/**/*.py"), *ROOT.glob("tui/**/*.py")])
MODULE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70

# path::function -> why it is better in one piece
LONG_FUNCTIONS: dict[str, str] = {}
LONG_MODULES: dict[str, str] = {}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of each function, docstring not counted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = 0
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstring = (first.end_lineno or first.lineno) - first.lineno + 1
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


def test_modules_stay_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCES
    }

    too_long = {name for name, lines in lengths.items() if lines > MODULE_LINES_MAX}

    assert too_long == set(LONG_MODULES)


def test_functions_stay_short() -> None:
    too_long = {
        f"{path.relative_to(ROOT)}::{name}": lines
        for path in SOURCES
        for name, lines in _functions(path)
        if lines > FUNCTION_LINES_MAX
    }

    assert set(too_long) == set(LONG_FUNCTIONS), too_long


def test_module_names_say_what_is_inside() -> None:
    assert not [path for path in SOURCES if path.stem in VAGUE_NAMES]


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert silent == []


def test_the_version_is_the_newest_one_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    headings = re.findall(r"^## (\S+)", changelog, flags=re.MULTILINE)

    assert headings[0] == "Unreleased"
    assert headings[1] == holdfast.__version__


def _modules_after(statement: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT}/core:{ROOT}/tui"},
    )
    return set(result.stdout.split())


def test_starting_up_loads_nothing_heavy() -> None:
    heavy = {
        *("textual", "rich", "numpy", "cryptography", "zstandard", "pyfastcdc", "tomlkit"),
        *("tomllib", "dataclasses", "inspect", "asyncio", "subprocess", "json", "difflib"),
        *("holdfast.config", "holdfast.datastore", "holdfast.operations"),
    }

    loaded = _modules_after("import holdfast.cli.main, holdfast.cli.version_cmd")

    assert loaded & heavy == set()
    assert not [name for name in loaded if name.startswith("holdfast_tui")]


def test_no_command_but_tui_loads_the_terminal_ui() -> None:
    load_all = "from holdfast.cli import commands; "
    load_all += "[c.load() for c in commands.built() if c.name not in ('tui', 'demo')]"

    assert not _modules_after(load_all) & {"textual", "rich", "holdfast_tui"}
