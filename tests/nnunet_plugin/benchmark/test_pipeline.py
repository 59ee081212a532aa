"""The three stages: order, overlap, back pressure, and what is left behind when one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_plugin.benchmark.pipeline import overlapped

SECONDS = 20.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def identity(item: int) -> int:
    return item


class Items:
    """Counts what was prepared, and whether the iterator was told that nobody wants more."""

    def __init__(self, count: int) -> None:
        self.prepared = 0
        self.is_closed = False
        self.iterator = self._iterate(count)

    def _iterate(self, count: int) -> Iterator[int]:
        try:
            for item in range(count):
                self.prepared += 1
                yield item
        finally:
            self.is_closed = True


@given(st.lists(st.integers()), st.integers(1, 5))
def test_the_same_as_one_after_the_other(items, ahead):
    results = overlapped(iter(items), lambda item: item * 2, lambda output: output + 1, ahead=ahead)
    assert list(results) == [item * 2 + 1 for item in items]


def test_the_network_does_not_wait():
    """Each stage goes on only while the two others are at work: run one after the other, this would time out."""
    next_is_prepared, second_is_computed = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        next_is_prepared.set()
        yield 1

    def compute(item: int) -> int:
        if item == 0:
            assert next_is_prepared.wait(SECONDS)
        else:
            second_is_computed.set()
        return item

    def finish(item: int) -> int:
        if item == 0:
            assert second_is_computed.wait(SECONDS)
        return item

    assert list(overlapped(items(), compute, finish)) == [0, 1]


@pytest.mark.parametrize("ahead", [1, 3])
def test_slow_stages_hold_the_others_back(ahead):
    items, computed, waiting = Items(30), [], []

    def compute(item: int) -> int:
        computed.append(item)
        waiting.append(items.prepared - len(computed))
        return item

    lags = [len(computed) - result - 1 for result in overlapped(items.iterator, compute, identity, ahead=ahead)]
    assert max(waiting) <= ahead
    assert max(lags) <= ahead


class StageError(Exception):
    pass


def failing_at(item: int, error: type[BaseException], done: list[int] | None = None):
    def stage(value: int) -> int:
        if value == item:
            raise error
        if done is not None:
            done.append(value)
        return value

    return stage


@pytest.mark.parametrize("error", [StageError, KeyboardInterrupt])
def test_what_was_computed_is_finished_when_computing_ends(error):
    items, finished = Items(100), []
    with pytest.raises(error):
        list(overlapped(items.iterator, failing_at(5, error), failing_at(-1, error, finished)))
    assert finished == [0, 1, 2, 3, 4]
    assert items.prepared <= 5 + 4


def test_error_while_preparing_arrives_after_what_came_before():
    computed: list[int] = []
    prepared = map(failing_at(3, StageError), range(9))
    with pytest.raises(StageError):
        list(overlapped(prepared, failing_at(-1, StageError, computed), identity))
    assert computed == [0, 1, 2]


def test_error_while_finishing_stops_the_network():
    computed: list[int] = []
    with pytest.raises(StageError):
        list(overlapped(iter(range(100)), failing_at(-1, StageError, computed), failing_at(3, StageError)))
    assert len(computed) <= 3 + 3


def test_caller_may_stop_early():
    items = Items(100)
    results = overlapped(items.iterator, identity, identity)
    assert next(results) == 0
    results.close()
    assert items.prepared < 10
