"""Compiled work on blocks of a vector, shared out to threads.

The functions release the GIL, so plain threads do; one compilation serves any number of them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np

THREADED_BITS = 21
"""Below this size a product takes less time than waking a second thread is worth."""


@lru_cache(maxsize=1)
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="qeqprop")


def run_blocks(function: Callable[..., None], n_blocks: int, threads: int, *args: Any) -> None:
    """function(first, last, *args) over all blocks, on several threads if asked; the function must release the GIL.

    Results per block are summed by the caller in a fixed order, so they do not depend on the number of threads.
    """
    threads = min(threads, n_blocks)
    if threads <= 1:
        function(0, n_blocks, *args)
        return
    bounds = np.linspace(0, n_blocks, threads + 1).astype(int)
    pool = _thread_pool(threads)
    jobs = [pool.submit(function, int(a), int(b), *args) for a, b in pairwise(bounds)]
    for job in jobs:
        job.result()


def default_threads(n_bits: int) -> int:
    """One thread for states that fit in the cache, all that Numba may use above."""
    return 1 if n_bits < THREADED_BITS else numba.get_num_threads()
