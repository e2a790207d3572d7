from pathlib import Path

from bench.page import put


def test_a_section_is_replaced_and_its_neighbours_stay(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("# Measured\n\nOn what.\n\n## One\n\nold\n\n## Two\n\ntwo\n")

    put(page, "One", "new\n")

    assert page.read_text() == "# Measured\n\nOn what.\n\n## One\n\nnew\n\n## Two\n\ntwo\n"


def test_a_new_section_comes_last(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"

    put(page, "One", "1")
    put(page, "Two", "2")
    put(page, "Two", "two")

    assert page.read_text() == "# Measured\n\n## One\n\n1\n\n## Two\n\ntwo\n"
