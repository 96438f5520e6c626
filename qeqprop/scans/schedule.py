"""Handing out rows of points: batches of short ones, a bounded number in flight, and a pool that may lose a process."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any

from .grid import Point
from .pool import SpawnPool
from .work import Job, Report, blame, run_rows

Row = Sequence[Point]
Progress = Callable[[Report, Sequence[Row]], None]
"""Told of every batch of rows that came back."""
BATCH_SECONDS = 0.5
"""Short rows are handed out together, up to about this time."""
IN_FLIGHT = 512
"""Batches at once with an executor whose number of workers is not known."""


def run_here(job: Job, rows: Sequence[Row], progress: Progress) -> None:
    """Run the rows in this process."""
    for row in rows:
        progress(run_rows(job, [row]), [row])


def run_with_executor(executor: Any, workers: int | None, job: Job, rows: Sequence[Row], progress: Progress) -> None:
    """Run the rows with any `concurrent.futures.Executor`; what it raises is raised, and what was done stays done."""
    batches = Batches(rows, workers or IN_FLIGHT)
    flying: dict[Future[Report], list[Row]] = {}
    try:
        while batches or flying:
            _fill(executor, batches, flying, job)
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                batch = flying.pop(future)
                report = future.result()
                batches.learn(report, len(batch))
                progress(report, batch)
    finally:
        for future in flying:
            future.cancel()


def run_with_pool(pool: SpawnPool, job: Job, rows: Sequence[Row], progress: Progress) -> None:
    """Run the rows in our own pool. Where a process dies, its rows are run again, one at a time: who kills it twice when
    alone is recorded as failed."""
    try:
        run_with_executor(pool, pool.workers, job, rows, progress)
        return
    except BrokenExecutor:
        pool.restart()
    for row in rows:
        attempts = 0
        while True:
            try:
                progress(pool.submit(run_rows, job, [row]).result(), [row])
                break
            except BrokenExecutor:
                pool.restart()
                attempts += 1
                if attempts == 2:
                    blame(job, row, "the process died twice while it ran this point (out of memory?)")
                    attempts = 0


def _fill(executor: Any, batches: "Batches", flying: dict[Future[Report], list[Row]], job: Job) -> None:
    while batches and len(flying) < 2 * batches.workers:
        batch = batches.take()
        flying[executor.submit(run_rows, job, batch)] = batch


class Batches:
    """Rows that wait, and how many of them make a batch."""

    def __init__(self, rows: Sequence[Row], workers: int):
        self.workers = workers
        self._rows = deque(rows)
        self._seconds, self._done = 0.0, 0

    def take(self) -> list[Row]:
        return [self._rows.popleft() for _ in range(min(self._size(), len(self._rows)))]

    def _size(self) -> int:
        if not self._done:
            return 1
        short = int(BATCH_SECONDS * self._done / max(self._seconds, 1e-6))
        return max(1, min(short, len(self._rows) // (4 * self.workers)))

    def learn(self, report: Report, n_rows: int) -> None:
        self._seconds += report.seconds
        self._done += n_rows

    def __len__(self) -> int:
        return len(self._rows)
