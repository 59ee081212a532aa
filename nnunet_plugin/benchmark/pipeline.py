"""Three stages that overlap: what comes before and after the network never makes it wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")
Result = TypeVar("Result")


def overlapped(
    items: Iterator[Item],
    compute: Callable[[Item], Output],
    finish: Callable[[Output], Result],
    *,
    ahead: int = 2,
) -> Generator[Result, None, None]:
    """Prepare the next items and finish the last ones, each in a thread of its own, while one is computed here.

    An exception in any stage ends the pipeline: nothing new is started, what is being prepared is dropped, what has
    been computed is still finished, and no thread is left when the exception arrives here. The same happens on Ctrl-C
    and where the caller stops early.

    Parameters
    ----------
    items
        Preparing is advancing this iterator.
    compute
        The stage that must not wait; called in the caller's thread.
    finish
        Called in the order of the items.
    ahead
        Items that are held prepared, and computed but not finished, at most.

    Yields
    ------
    Result
        What ``finish`` returned, in order.
    """
    before, after = ThreadPoolExecutor(1, "prepare"), ThreadPoolExecutor(1, "finish")
    upcoming: deque[Future[tuple[Item] | None]] = deque()
    finishing: deque[Future[Result]] = deque()
    try:
        upcoming.extend(before.submit(_advance, items) for _ in range(ahead))
        while (item := upcoming.popleft().result()) is not None:
            upcoming.append(before.submit(_advance, items))
            output = compute(*item)
            finishing.append(after.submit(finish, output))
            while len(finishing) >= ahead or (finishing and finishing[0].done()):
                yield finishing.popleft().result()
        while finishing:
            yield finishing.popleft().result()
    finally:
        before.shutdown(cancel_futures=True)
        after.shutdown()


def _advance(items: Iterator[Item]) -> tuple[Item] | None:
    for item in items:
        return (item,)
    return None
