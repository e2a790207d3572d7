"""What goes into a stream comes out of its index, whichever way it went in."""

import errno
from pathlib import Path

import pytest
from tests.harness.streams import pseudo_random
from tests.harness.upload_rig import UploadRig

from holdfast.chunking.cutters import Chunker
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.segments import Segment
from holdfast.datastore.stream_writer import KnownChunk, StreamWriter
from holdfast.errors import BadRequest, NoSpace
from holdfast.host import gate
from holdfast.units import KIB, MIB

DATA = pseudo_random(3 * MIB)


def known_chunks(rig: UploadRig, name: str) -> list[KnownChunk]:
    index = rig.index(name)
    return [
        KnownChunk(index.digest_at(number), index.range_at(number)[1] - index.range_at(number)[0])
        for number in range(index.chunk_count)
    ]


def written_and_closed(writer: StreamWriter) -> None:
    writer.write(DATA)
    writer.close()


@pytest.mark.parametrize("chunker", list(Chunker))
@pytest.mark.parametrize("key", [None, EncryptionKey(bytes(32))])
def test_a_stream_larger_than_all_segments_reads_back(
    tmp_path: Path, chunker: Chunker, key: EncryptionKey | None
) -> None:
    with UploadRig(tmp_path, key=key) as rig:
        writer = rig.stream(chunker=chunker)
        writer.write(DATA)
        summary = writer.close()

        assert writer.position == summary.size_bytes == len(DATA)
        assert rig.closed == [summary]
        assert rig.content("s.didx") == DATA
        assert rig.index("s.didx").checksum() == summary.checksum


def test_bytes_put_into_the_room_count_like_written_ones(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.stream()
        for start in range(0, len(DATA), 100_000):
            piece = DATA[start : start + 100_000]
            while piece:
                room = writer.room()
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                writer.commit(count)
                piece = piece[count:]
        writer.close()

        assert rig.content("s.didx") == DATA


def adopted(writer: StreamWriter, pieces: list[bytes], *, front: int) -> list[Segment]:
    """Hand the pieces over in memory of the caller's, `front` bytes before each; what came back."""
    freed: list[Segment] = []
    for piece in pieces:
        segment = Segment(bytearray(front + len(piece) + 100), freed.append)
        segment.view[front : front + len(piece)] = piece
        segment.hold()
        writer.adopt(segment, front, len(piece))
    return freed


@pytest.mark.parametrize("front", [0, 10_000, 300 * KIB], ids=["nothing", "some", "all"])
def test_memory_of_the_caller_gives_the_same_chunks_whatever_fits_before_it(
    tmp_path: Path, front: int
) -> None:
    pieces = [DATA[start : start + 200_000] for start in range(0, len(DATA), 200_000)]
    with UploadRig(tmp_path) as rig:
        written_and_closed(rig.stream("written.didx"))
        writer = rig.stream()
        freed = adopted(writer, pieces, front=front)
        writer.close()

        assert writer.position == len(DATA)
        assert bytes(rig.index("s.didx").table) == bytes(rig.index("written.didx").table)
        assert len(freed) == len(set(map(id, freed))) == len(pieces)  # each came back once


def test_bytes_go_on_in_adopted_memory_and_behind_it(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.stream()
        writer.write(DATA[:1000])
        freed = adopted(writer, [DATA[1000:50_000]], front=2000)
        writer.write(DATA[50_000:])
        writer.close()

        assert rig.content("s.didx") == DATA
        assert len(freed) == 1


def test_adopted_memory_comes_back_from_a_stream_that_is_given_up(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.stream()
        freed = adopted(writer, [DATA[:1000], DATA[1000:2000]], front=2000)
        assert len(freed) == 1

        writer.abandon()

        assert len(freed) == 2


def test_the_same_bytes_in_other_portions_give_the_same_chunks(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        tables = []
        for number, step in enumerate((1_000, 77_777, len(DATA))):
            writer = rig.stream(f"{number}.didx")
            for start in range(0, len(DATA), step):
                writer.write(DATA[start : start + step])
            writer.close()
            tables.append(bytes(rig.index(f"{number}.didx").table))
        rig.uploader.stop()

    assert tables[0] == tables[1] == tables[2]
    assert rig.uploader.stats.new_chunks == len(rig.chunk_files())


def test_injected_chunks_become_part_of_the_stream_without_their_bytes(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        first = rig.stream("first.didx")
        first.write(DATA)
        first.close()
        again = rig.stream("again.didx")
        again.write(b"head")
        again.inject(known_chunks(rig, "first.didx"))
        assert again.position == 4 + len(DATA)
        again.write(b"tail")
        again.close()
        rig.uploader.stop()

        assert again.injected_bytes == len(DATA)
        assert rig.content("again.didx") == b"head" + DATA + b"tail"
        assert rig.uploader.stats.reused_bytes == len(DATA)


def test_a_stream_may_begin_and_end_with_injected_chunks(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        first = rig.stream("first.didx")
        first.write(b"only")
        first.close()
        again = rig.stream("again.didx")
        again.inject(known_chunks(rig, "first.didx"))
        again.inject(known_chunks(rig, "first.didx"))
        again.close()

        assert rig.content("again.didx") == b"onlyonly"


def test_a_chunk_that_nobody_vouches_for_is_not_injected(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.stream()
        with pytest.raises(BadRequest):
            writer.inject([KnownChunk(bytes(32), 5)])
        writer.abandon()


def test_a_known_chunk_with_another_size_is_not_injected(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        first = rig.stream("first.didx")
        first.write(b"only")
        first.close()
        writer = rig.stream()
        (chunk,) = known_chunks(rig, "first.didx")
        with pytest.raises(BadRequest):
            writer.inject([KnownChunk(chunk.digest, 5)])
        writer.abandon()


def test_a_suggested_boundary_keeps_the_chunks_behind_an_insertion(tmp_path: Path) -> None:
    files = [DATA[start : start + 100 * KIB] for start in range(0, 2 * MIB, 100 * KIB)]
    with UploadRig(tmp_path) as rig:
        digests = []
        for number, names in enumerate((files, [b"new file", *files])):
            writer = rig.stream(f"{number}.didx")
            for content in names:
                writer.suggest()
                writer.write(content)
            writer.close()
            digests.append(set(rig.index(f"{number}.didx").digests()))

    assert len(digests[0] - digests[1]) <= 2


def test_a_stream_without_a_byte_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.stream()
        with pytest.raises(BadRequest):
            writer.close()
        writer.abandon()

    assert [path.name for path in tmp_path.iterdir()] == [".chunks"]


def test_an_abandoned_stream_leaves_no_index(tmp_path: Path) -> None:
    with UploadRig(tmp_path) as rig:
        writer = rig.stream()
        writer.write(DATA)
        writer.abandon()
        writer.abandon()

    assert [path.name for path in tmp_path.iterdir()] == [".chunks"]


def test_a_full_disk_is_met_by_the_writer_and_not_later_than_at_close(tmp_path: Path) -> None:
    def full_disk(call: str, path: object) -> None:
        if call == "write" and ".chunks" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with UploadRig(tmp_path) as rig:
        writer = rig.stream()
        with gate.installed(full_disk), pytest.raises(NoSpace):
            written_and_closed(writer)
        writer.abandon()

    assert [path.name for path in tmp_path.iterdir()] == [".chunks"]
