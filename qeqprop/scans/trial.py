"""What a scan will take, measured at one of its points in a process of its own. Nothing is written."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from .grid import Grid, Point
from .ledger import FAILED, packed
from .pool import SpawnPool
from .work import Job, load_function, run_point

LONG = 60.0
"""Seconds above which a point is not run twice."""


class Trial(NamedTuple):
    """One point, run alone.

    Attributes:
        first: seconds that the function took, with what it imported and compiled.
        seconds: that it took when called again; where the first call took over a minute, that is taken for both.
        memory: largest resident memory of the process, in bytes, Python and its libraries included.
        stored: bytes of the point's file.
        array: bytes of its values in the table.
        error: text of what it raised, empty where it did not.
    """

    first: float
    seconds: float
    memory: int
    stored: int
    array: int
    error: str


def try_point(function: Callable[..., Any], grid: Grid, seed: int, point: Point) -> Trial:
    """Run `point` in a spawned process with one thread, as a scan's workers are."""
    job = Job("", cloudpickle.dumps(function), seed, grid.along is not None, False)
    with SpawnPool(1) as pool:
        return pool.submit(_tried, job, point).result()


def _tried(job: Job, point: Point) -> Trial:
    function = load_function(job.function)
    outcome, _ = run_point(function, point, job)
    first = outcome.seconds
    if outcome.status != FAILED and first < LONG:
        outcome, _ = run_point(function, point, job)
    peak = _peak_memory()
    if outcome.status == FAILED:
        return Trial(first, outcome.seconds, peak, 0, 0, outcome.error)
    array = sum(value.nbytes for value in outcome.values.values())
    return Trial(first, outcome.seconds, peak, len(packed(point, outcome)), array, "")


def _peak_memory() -> int:
    """Largest resident memory of this process. Linux's `ru_maxrss` would count that of the parent at its start as well."""
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
