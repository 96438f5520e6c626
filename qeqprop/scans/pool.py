"""A pool of spawned processes that die with their parent and use one BLAS thread each."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait as wait_for
from typing import Any

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class SpawnPool:
    """`workers` processes; never forked, since a fork after JAX has started may hang.

    Use it as a context: leaving it on an error ends the processes at once.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._start()

    def _start(self) -> None:
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _die_with_parent)
        for _ in range(
            self.workers
        ):  # starts them all; work is handed out to those that are up, without waiting for others
            self.submit(_ready)

    def submit(self, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        with _one_thread_each():  # libraries read it when they load; a child, started here, inherits it
            return self._pool.submit(function, *args)

    def restart(self) -> None:
        """Replace a pool that lost a process."""
        self._end()
        self._start()

    def _end(self) -> None:
        for process in set(multiprocessing.active_children()) - self._others:
            process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "SpawnPool":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._pool.shutdown()
        else:
            self._end()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """One thread for each numerical library, where the user has not said otherwise."""
    unset = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


def _ready() -> None:
    """The first task of a process: it is up."""


def _die_with_parent() -> None:
    """Started in each process: no orphan outlives a killed parent, and Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
