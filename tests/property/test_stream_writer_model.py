"""A stream against the plainest model of it: a list of bytes that only ever grows."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.streams import pseudo_random
from tests.harness.upload_rig import UploadRig

from holdfast.chunking.cutters import Chunker
from holdfast.datastore.stream_writer import KnownChunk, StreamWriter
from holdfast.units import KIB, MIB

SOURCE = pseudo_random(2 * MIB)
KNOWN_MAX = 6

sizes = st.one_of(st.integers(0, 200), st.integers(0, 300 * KIB))
steps = st.one_of(
    st.tuples(st.just("write"), sizes),
    st.tuples(st.just("room"), sizes),
    st.tuples(st.just("zeros"), sizes),
    st.tuples(st.just("suggest"), st.just(0)),
    st.tuples(st.just("inject"), st.integers(0, KNOWN_MAX)),
)


def known_pieces(rig: UploadRig) -> list[tuple[KnownChunk, bytes]]:
    """Chunks of an earlier stream of this session, with their bytes."""
    writer = rig.stream("known.didx")
    writer.write(SOURCE[: 600 * KIB])
    writer.close()
    index = rig.index("known.didx")
    found = []
    for number in range(index.chunk_count):
        start, end = index.range_at(number)
        found.append((KnownChunk(index.digest_at(number), end - start), SOURCE[start:end]))
    return found


def fill_room(writer: StreamWriter, data: bytes) -> None:
    while data:
        room = writer.room()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        writer.commit(count)
        data = data[count:]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=st.lists(steps, max_size=40), chunker=st.sampled_from(Chunker), seed=st.integers(0, 99))
def test_whatever_is_done_to_a_stream_it_reads_back_as_the_model_says(
    plan: list[tuple[str, int]], chunker: Chunker, seed: int
) -> None:
    """Goal: no order of calls loses, adds or moves a byte. Method: compare with joined bytes."""
    with tempfile.TemporaryDirectory() as base, UploadRig(Path(base)) as rig:
        known = known_pieces(rig)
        writer = rig.stream("s.didx", chunker)
        model = bytearray(b"start")
        writer.write(b"start")
        injected = 0
        for number, (step, size) in enumerate(plan):
            offset = (seed * 7919 + number * 104_729) % MIB
            if step == "suggest":
                writer.suggest()
            elif step == "inject":
                chosen = [known[(seed + number + i) % len(known)] for i in range(size)]
                writer.inject([chunk for chunk, _data in chosen])
                model += b"".join(data for _chunk, data in chosen)
                injected += sum(chunk.size for chunk, _data in chosen)
            else:
                data = bytes(size) if step == "zeros" else SOURCE[offset : offset + size]
                if step == "room":
                    fill_room(writer, data)
                else:
                    writer.write(data)
                model += data
            assert writer.position == len(model)
        summary = writer.close()

        index = rig.index("s.didx")
        assert rig.content("s.didx") == model
        assert writer.injected_bytes == injected
        assert (summary.size_bytes, summary.checksum) == (len(model), index.checksum())
        for position in range(index.chunk_count):
            start, end = index.range_at(position)
            assert 0 < end - start <= rig.params.chunk_bytes_max


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 400 * KIB), max_size=12), chunker=st.sampled_from(Chunker))
def test_portions_do_not_move_cuts(cuts: list[int], chunker: Chunker) -> None:
    """Goal: the same bytes always give the same chunks. Method: whole against in portions."""
    data = SOURCE[: MIB + 3]
    with tempfile.TemporaryDirectory() as base, UploadRig(Path(base)) as rig:
        whole = rig.stream("whole.didx", chunker)
        whole.write(data)
        whole.close()
        portions = rig.stream("portions.didx", chunker)
        rest = data
        for size in cuts:
            portions.write(rest[:size])
            rest = rest[size:]
        portions.write(rest)
        portions.close()

        assert bytes(rig.index("whole.didx").table) == bytes(rig.index("portions.didx").table)
