"""Do things ahead of when they are asked for, by threads, and give them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    start: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` of each item, in the items' order.

    What one of them raises is raised in its turn. Nothing runs on once the iterator is closed.

    Args:
        function: safe to call from several threads.
        items: taken as they are needed.
        threads: how many run at once.
        ahead: how many may be done or under way before they are asked for.
        start: called once in each thread.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead", initializer=start)
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
