"""A home with real data to look at: two stores, some weeks of backups, jobs, one damaged chunk.

Everything is made by the real program: files are copied from Python's own library and changed from
"day" to "day", verified, pruned, collected; one bit of one chunk is flipped and found.
"""

import os
import random
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DAY = 86_400
CONFIG = """\
[stores.main]
path = "{home}/main"
comment = "all machines"
keep-daily = 7
keep-weekly = 4

[stores.offsite]
path = "{home}/offsite"
comment = "second copy"

[jobs.nightly-web]
kind = "backup"
store = "main"
sources = ["etc.pxar:{home}/files/web1"]
id = "web1"
schedule = "21:00"
max-age = "36h"

[jobs.nightly-db]
kind = "backup"
store = "main"
sources = ["data.pxar:{home}/files/db1"]
id = "db1"
schedule = "mon..fri 21:30"
max-age = "36h"

[jobs.weekly-verify]
kind = "verify"
store = "main"
schedule = "sat 12:00"

[jobs.prune-main]
kind = "prune"
store = "main"
keep-daily = 7
keep-weekly = 4
schedule = "22:30"

[jobs.collect]
kind = "gc"
store = "main"
schedule = "sun 03:00"

[jobs.lab]
kind = "backup"
store = "offsite"
sources = ["{home}/files/ci"]
schedule = "4:00"
enabled = false
"""


@dataclass
class Scene:
    """Where it is, and how commands are run there."""

    home: Path
    environment: dict[str, str]

    def run(self, *words: str | Path, codes: tuple[int, ...] = (0, 3)) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *map(str, words)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in codes:
            raise SystemExit(f"holdfast {words}: {done.returncode} {done.stderr}")
        return done.stdout

    def options(self, **more: Any) -> Any:
        from holdfast_tui.options import Options

        config, state = str(self.home / "config.toml"), str(self.home / "state")
        return Options(
            **{
                "config": config,
                "state_dir": state,
                "default_config": config,
                "default_state_dir": state,
                **more,
            }
        )


def _machine(path: Path, rng: random.Random, library: Path, count: int) -> None:
    sources = sorted(library.glob("**/*.py"))
    for source in rng.sample(sources, min(count, len(sources))):
        target = path / source.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def _a_day_passes(path: Path, rng: random.Random, day: int) -> None:
    files = sorted(each for each in path.glob("**/*.py") if each.is_file())
    for each in rng.sample(files, min(12, len(files))):
        with each.open("ab") as file:
            file.write(f"# day {day}: {rng.random()}\n".encode() * 40)


def opened(home: Path) -> Scene:
    """The scene that is below `home`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
    environment = {
        **clean,
        "PYTHONPATH": f"{ROOT / 'core'}:{ROOT / 'tui'}",
        "HOLDFAST_CONFIG": str(home / "config.toml"),
        "HOLDFAST_STATE_DIR": str(home / "state"),
    }
    return Scene(home, environment)


def make(home: Path, *, days: int = 9) -> Scene:
    """Make it below `home`, which must not exist (some 40 runs of the program)."""
    home.mkdir(parents=True)
    scene = opened(home)
    (home / "config.toml").write_text(CONFIG.format(home=home))
    for name in ("main", "offsite"):
        (home / name / ".chunks").mkdir(parents=True, mode=0o750)
        (home / name / ".lock").touch()
    rng = random.Random(100)
    library = Path(sysconfig.get_paths()["stdlib"])
    machines = {"web1": "etc.pxar", "db1": "data.pxar", "ci": "home.pxar"}
    for name in machines:
        _machine(home / "files" / name, rng, library, 160)
    (home / "files" / "web1" / "nginx").mkdir()
    (home / "files" / "web1" / "nginx" / "api.conf").write_text(
        "server {\n    listen 443 ssl http2;\n    server_name api.example.org;\n}\n"
    )
    disk = home / "files" / "disk.raw"
    disk.write_bytes(rng.randbytes(6 << 20) + bytes(10 << 20) + rng.randbytes(2 << 20))
    now = int(time.time())
    for day in range(days, -1, -1):
        for name, archive in machines.items():
            if name == "ci" and day % 3:
                continue
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - day * DAY - 3600))
            store = "offsite" if name == "ci" else "main"
            scene.run(
                *("-s", store, "backup", f"{archive}:{home / 'files' / name}"),
                *("--id", name, "--time", stamp),
            )
            _a_day_passes(home / "files" / name, rng, day)
        if day % 4 == 0:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - day * DAY - 7200))
            scene.run(
                *("-s", "main", "backup", f"drive-scsi0.img:{disk}"),
                *("--type", "vm", "--id", "104", "--time", stamp),
            )
    scene.run("-s", "main", "protect", _newest(scene, "vm/104"))
    scene.run("-s", "main", "comment", _newest(scene, "host/web1"), "before the upgrade")
    scene.run("-s", "main", "verify")
    _flip(scene)
    scene.run("-s", "main", "verify", "host/db1", codes=(20,))
    for store in ("main", "offsite"):
        scene.run("-s", store, "gc")
    scene.run("-s", "offsite", "verify")
    scene.run("-s", "main", "prune", "host/db1", "--keep-daily", "6", "--yes")
    scene.run("-s", "offsite", "backup", f"gone.pxar:{home / 'not-there'}", codes=(1, 2, 3, 10))
    return scene


def _newest(scene: Scene, group: str) -> str:
    import json

    found = json.loads(scene.run("-s", "main", "--json", "snapshots", group))
    return str(found[-1]["snapshot"])


def _flip(scene: Scene) -> None:
    from holdfast.datastore.store import Access, Datastore
    from holdfast.ids import SnapshotId

    store = Datastore.open(str(scene.home / "main"), Access.READ_ONLY)
    newest = SnapshotId.parse(_newest(scene, "host/db1"))
    entry = next(e for e in store.manifest(newest).files if e.filename.endswith("ppxar.didx"))
    index = store.open_index(newest, entry.filename)
    digest = index.digest_at(index.chunk_count - 1).hex()
    path = scene.home / "main" / ".chunks" / digest[:4] / digest
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
