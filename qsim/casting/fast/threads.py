"""How many threads the kernels use, and how a range of work is dealt out to them.

The kernels release the GIL; every thread gets one contiguous range, so results do not depend on their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from qsim.errors import UserError

BIG = 1 << 18  # elements per thread below which starting another one costs more than it saves

_chosen: int | None = None


def set_threads(count: int | None) -> None:
    """Use `count` threads for big arrays; None goes back to QSIM_THREADS or, without it, all cores of the process."""
    global _chosen
    if count is not None and (not isinstance(count, int) or count < 1):
        raise UserError(f"set_threads: a whole number of at least 1, not {count!r}")
    _chosen = count


def get_threads() -> int:
    """Threads a big array is spread over."""
    if _chosen is not None:
        return _chosen
    text = os.environ.get("QSIM_THREADS")
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"QSIM_THREADS={text}: a whole number of at least 1 is expected")
    return int(text)


def spread(work: Callable[[int, int], bool], count: int, elements: int) -> bool:
    """Call work(first, last) over 0..count in as many threads as `elements` deserve; whether any call said True."""
    worth = min(elements // BIG, count)
    threads = min(get_threads(), worth) if worth > 1 else 1
    if threads == 1:
        return bool(work(0, count))
    edges = [count * i // threads for i in range(threads + 1)]
    # The caller's thread works too, so the pool lends one less.
    helpers = [_pool(threads - 1).submit(work, *edges[i : i + 2]) for i in range(1, threads)]
    answers = [work(*edges[:2]), *(helper.result() for helper in helpers)]
    return any(answers)


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="qsim")


# A forked child has no threads in the pool it inherits: it starts with none.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
