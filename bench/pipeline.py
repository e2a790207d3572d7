"""How fast is the way from files to chunks, without walking, metadata and the command line?

stream   /usr/share (or --tree) read file by file into a StreamWriter
image    an image file through an ImageWriter, against the floor: the same bytes through SHA-256
         and zstd level 1 on two threads, nothing written

Prints one JSON object: MB/s as median, least and greatest of the repetitions, and the ratio.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import corpora
from bench.floor import floor_s
from holdfast.block.image_backup import ImageSource, back_up_image
from holdfast.datastore.session import BackupSession
from holdfast.datastore.store import Datastore
from holdfast.datastore.stream_writer import StreamWriter
from holdfast.ids import GroupId
from holdfast.units import MIB

GROUP = GroupId.parse("host/bench")


def regular_files(top: str) -> list[str]:
    found = []
    for directory, _names, names in os.walk(top):
        paths = [os.path.join(directory, name) for name in names]
        found += [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
    return sorted(found)


def read_into(writer: StreamWriter, path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    writer.suggest()
    while count := os.readv(fd, [writer.room()]):
        writer.commit(count)
    os.close(fd)


def stream_s(store: Datastore, paths: list[str], time_s: int) -> tuple[float, int]:
    """Seconds and bytes of one first backup of `paths`, flushing left out."""
    with BackupSession.start(store, GROUP, time_s) as session:
        began = time.perf_counter()
        writer = session.stream("tree.ppxar.didx")
        for path in paths:
            read_into(writer, path)
        writer.close()
        return time.perf_counter() - began, writer.position


def image_s(store: Datastore, path: Path, time_s: int) -> float:
    """Seconds of one first backup of the image, flushing left out."""
    with (
        BackupSession.start(store, GROUP, time_s) as session,
        ImageSource(str(path)) as source,
    ):
        began = time.perf_counter()
        back_up_image(source, session.image("disk.img.fidx", source.size))
        return time.perf_counter() - began


def rates(size: int, work: Callable[[], float], repeat: int) -> dict[str, float]:
    runs = [size / 1e6 / work() for _ in range(repeat)]
    named = {"median": statistics.median(runs), "min": min(runs), "max": max(runs)}
    return {name: round(value, 1) for name, value in named.items()}


def fresh(work: Path, number: int) -> Datastore:
    return Datastore.create(str(work / f"store{number}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", default="/usr/share")
    parser.add_argument("--image-mib", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        stores = [fresh(work, number) for number in range(2 * args.repeat)]
        image = work / "disk.img"
        corpora.make_image(image, total_bytes=args.image_mib * MIB)
        paths = regular_files(args.tree)
        size = sum(os.path.getsize(path) for path in paths)
        stream = rates(size, lambda: stream_s(stores.pop(), paths, 1000)[0], args.repeat)
        image_size = image.stat().st_size
        writer = rates(image_size, lambda: image_s(stores.pop(), image, 1000), args.repeat)
        floor = rates(image_size, lambda: floor_s(image), args.repeat)
        results: dict[str, object] = {
            "stream MB/s": stream,
            "image MB/s": writer,
            "floor MB/s": floor,
            "image / floor": round(writer["median"] / floor["median"], 2),
        }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
