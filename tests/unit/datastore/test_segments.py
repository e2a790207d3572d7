"""Segments come back when every user is done, and a pool never makes more than it may."""

import threading

from holdfast.datastore.segments import SegmentPool


def test_a_segment_comes_back_when_its_last_user_releases_it() -> None:
    pool = SegmentPool(segment_bytes=64, count_max=1)
    segment = pool.take()
    segment.hold()
    segment.release()
    taken: list[object] = []
    waiter = threading.Thread(target=lambda: taken.append(pool.take()))
    waiter.start()

    assert not taken
    segment.release()
    waiter.join()

    assert taken == [segment]


def test_the_same_memory_is_used_again() -> None:
    pool = SegmentPool(segment_bytes=64, count_max=3)
    first = pool.take()
    first.release()

    assert pool.take() is first


def test_a_pool_makes_new_segments_only_while_others_are_in_use() -> None:
    pool = SegmentPool(segment_bytes=64, count_max=2)
    first, second = pool.take(), pool.take()

    assert first is not second
    assert len(first.view) == 64
