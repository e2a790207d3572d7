"""Makes the pictures of the README from the real app on real data: SVG and PNG, in screenshots/.

    PYTHONPATH=.:core:tui:screenshots python screenshots/make.py [NAME ...] [--keep DIR]

A scene is made (see scene.py), slow jobs are started on it, the app runs without a terminal, keys
are pressed, and what it shows is written down. PNGs need cairosvg and the font DejaVu Sans Mono.
"""

import argparse
import asyncio
import io
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import scene
from tests.harness.tui import press, settled

from holdfast_tui.app import HoldfastApp
from holdfast_tui.render.look import Look

HERE = Path(__file__).resolve().parent
FONT_PX = 20.264  # a cell is 12.2 wide in the picture, and 0.602 of the size in this font
FONT = "DejaVu Sans Mono"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: a view in a terminal of some size, after some keys."""

    name: str
    view: str
    size: tuple[int, int] = (120, 40)
    theme: str = "harbour"
    keys: tuple[str, ...] = ()
    unicode: bool = True
    read_only: str = ""


WEB1 = ("slash", "w", "e", "b", "1", "enter", "enter", "j", "enter")
WALK = ("space", "j", "space", "j", "j", "j", "space", "k", "o")
PICTURES = (
    Picture("dashboard", "dashboard"),
    Picture("dashboard-light", "dashboard", theme="paper"),
    Picture("dashboard-80x24", "dashboard", size=(80, 24)),
    Picture("dashboard-ascii", "dashboard", size=(80, 24), theme="ansi", unicode=False),
    Picture("snapshots", "snapshots"),
    Picture("snapshot", "snapshots", keys=("j", "l", "enter")),
    Picture("restore", "restore", keys=(*WEB1, *WALK)),
    Picture(
        "restore-80x24",
        "restore",
        size=(80, 24),
        keys=(*WEB1, "space", "space", "j"),
    ),
    Picture("tasks", "tasks", theme="ember"),
    Picture("dedup", "dedup"),
    Picture("verify", "verify"),
    Picture("schedules", "schedules", size=(120, 32)),
    Picture("stores", "stores", size=(120, 32)),
    Picture("palette", "dashboard", size=(100, 30), keys=("colon",)),
    Picture("confirm", "dashboard", size=(100, 30), keys=("C",)),
    Picture("help", "tasks", size=(100, 34), keys=("question_mark",)),
    Picture(
        "read-only",
        "dashboard",
        size=(100, 30),
        theme="ember",
        keys=("V",),
        read_only="started with --read-only",
    ),
)


async def take(where: scene.Scene, picture: Picture) -> str:
    """The SVG of one picture."""
    app = HoldfastApp(
        where.options(read_only=picture.read_only),
        Look(theme=picture.theme, unicode=picture.unicode),
        start_view=picture.view,
    )
    app.host_name = "backup1"
    async with app.run_test(size=picture.size) as pilot:
        await settled(pilot)
        await pilot.pause(6.0 if picture.view in ("dashboard", "tasks") else 0.5)
        for key in picture.keys:
            await press(pilot, key)
            await pilot.pause(0.4)
        if not app.screen.is_modal:
            await settled(pilot)
        return app.export_screenshot(title=f"holdfast: {picture.name}")


def write(name: str, svg: str) -> None:
    """As SVG that needs no font from elsewhere, and as PNG."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", FONT).replace("font-size: 20px", f"font-size: {FONT_PX}px")
    (HERE / f"{name}.svg").write_text(svg)
    try:
        import cairosvg
        from PIL import Image
    except ImportError:
        print(f"{name}: no PNG, cairosvg is not installed")
        return
    # glyphs move by whole pixels: five times as large, where a cell is 61 of them, no gaps are left
    large = Image.open(io.BytesIO(cairosvg.svg2png(bytestring=svg.encode(), scale=5)))
    size = (large.width // 5, large.height // 5)
    picture = large.resize(size, Image.Resampling.LANCZOS).quantize(128)
    picture.save(HERE / f"{name}.png", optimize=True)
    print(name)


def start_jobs(where: scene.Scene) -> None:
    """Something to see moving."""
    disk = where.home / "files" / "disk.raw"
    files = where.home / "files" / "web1"
    where.run("job", "run", "nightly-web")
    where.run(
        *("-s", "main", "backup", f"srv.pxar:{files.parent}", "--id", "files1"),
        *("--read-limit", "300K", "--detach"),
    )
    where.run("-s", "main", "verify", "--read-limit", "60K", "--detach")
    where.run(
        *("-s", "offsite", "backup", f"drive-scsi0.img:{disk}", "--type", "vm", "--id", "104"),
        *("--chunk-size", "64", "--read-limit", "70K", "--detach"),
    )


def stop_jobs(where: scene.Scene) -> None:
    import json

    for task in json.loads(where.run("--json", "task", "list", "--running")):
        where.run("task", "stop", task["upid"], "--now", codes=(0, 1, 3, 10))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", type=Path, help="use, or make, the scene here and leave it")
    args = parser.parse_args(argv)
    place = args.keep or Path(tempfile.mkdtemp()) / "backup1"
    known = (place / "config.toml").exists()
    where = scene.opened(place) if known else scene.make(place)
    start_jobs(where)
    try:
        for picture in PICTURES:
            if not args.names or picture.name in args.names:
                write(picture.name, asyncio.run(take(where, picture)))
    finally:
        stop_jobs(where)
        if args.keep is None:
            shutil.rmtree(place.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
