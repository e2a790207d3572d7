from tests.harness.vectors import load

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.goodbye import ranks_by_slot

VECTORS = load("pxar", "goodbye")


def test_names_hash_as_recorded() -> None:
    for case in VECTORS["siphash24"]["vectors"]:
        assert f"{pxar.siphash(bytes.fromhex(case['name_hex'])):016x}" == case["hash"]


def test_type_constants_are_the_hashes_of_their_phrases() -> None:
    for name, constant in VECTORS["type_constants"].items():
        if hasattr(pxar, name):
            assert getattr(pxar, name) == int(constant["value"], 0), name
            assert pxar.siphash(constant["derivation"].encode()) == int(constant["value"], 0)
    assert pxar.GOODBYE_TAIL_MARKER == 0xEF5EED5B753E1555
    assert pxar.PAYLOAD_REF == 0x419D3D6BC4BA977E


def test_rows_stand_in_the_recorded_tree_order() -> None:
    for count, ranks in VECTORS["bst_permutation"]["by_n"].items():
        assert list(ranks_by_slot(int(count))) == ranks


def test_large_tables_are_search_trees_too() -> None:
    for count in (513, 1000, 4097):
        ranks = ranks_by_slot(count)
        assert sorted(ranks) == list(range(count))
        for slot in range(count):
            if 2 * slot + 1 < count:
                assert ranks[2 * slot + 1] < ranks[slot]
            if 2 * slot + 2 < count:
                assert ranks[2 * slot + 2] > ranks[slot]
