from hypothesis import given
from hypothesis import strategies as st

from holdfast.datastore import digest_set
from holdfast.datastore.digest_set import DigestSet

# few distinct values, many with zero bytes at the end, which fixed-width text would drop
DIGESTS = st.builds(
    lambda head, tail: bytes([head]) * 3 + bytes(28) + bytes([tail]),
    st.integers(0, 5),
    st.integers(0, 3),
)


@given(batches=st.lists(st.lists(DIGESTS, max_size=12), max_size=12), asked=st.lists(DIGESTS))
def test_behaves_like_a_set_of_byte_strings(batches: list[list[bytes]], asked: list[bytes]) -> None:
    model: set[bytes] = set()
    compact = DigestSet()

    for batch in batches:
        new = compact.add(digest_set.from_bytes(batch))
        assert list(digest_set.digest_bytes(new)) == sorted(set(batch) - model)
        model |= set(batch)

    assert len(compact) == len(model)
    assert compact.contains(digest_set.from_bytes(asked)).tolist() == [
        digest in model for digest in asked
    ]
    assert list(digest_set.digest_bytes(compact.ordered())) == sorted(model)


@given(digests=st.sets(st.binary(min_size=32, max_size=32), max_size=40))
def test_prefix_bounds_cut_the_sorted_digests_by_directory(digests: set[bytes]) -> None:
    ordered = digest_set.from_bytes(sorted(digests))
    bounds = digest_set.prefix_bounds(ordered)

    assert len(bounds) == digest_set.PREFIX_COUNT + 1
    for digest in digests:
        prefix = int.from_bytes(digest[:2], "big")
        assert digest in digest_set.digest_bytes(ordered[bounds[prefix] : bounds[prefix + 1]])
