"""What runs in a worker: points in order, each asked for in the ledger first and written there before it is reported."""

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import numpy as np

from .grid import Point
from .ledger import DONE, FAILED, MISSING, Ledger, Outcome
from .values import EQUILIBRIUM, GRADIENT, is_a, named_arrays

if TYPE_CHECKING:
    from ..core.solver import Equilibrium


class Job(NamedTuple):
    """What a worker must know: the ledger's folder, the function (by cloudpickle), the seed, whether rows are continued."""

    folder: str
    function: bytes
    seed: int
    continued: bool
    retry: bool


class Report(NamedTuple):
    """What a worker answers: the number of points done and failed now, and the seconds that they took."""

    done: int
    failed: int
    seconds: float


def run_rows(job: Job, rows: Sequence[Sequence[Point]]) -> Report:
    """Run the points of `rows` that have no outcome yet."""
    start, ledger = time.perf_counter(), Ledger(job.folder)
    statuses = [status for row in rows for status in run_row(job, row, ledger)]
    ledger.sync()
    return Report(statuses.count(DONE), statuses.count(FAILED), time.perf_counter() - start)


def run_row(job: Job, row: Sequence[Point], ledger: Ledger) -> list[int]:
    """Run one row in order; in a continuation each point starts from the equilibrium of its neighbour."""
    function, statuses = load_function(job.function), []
    carry, previous = None, None
    for point in row:
        known = ledger.status(point)
        if known == DONE or (known == FAILED and not job.retry):
            statuses.append(known)
            kept = ledger.load_carry(point) if job.continued else None
            carry, previous = (kept, point) if kept is not None else (carry, previous)
            continue
        outcome, found = run_point(function, point, job, carry)
        if found is not None:  # before the point: a crash in between repeats the point from its neighbour's equilibrium
            ledger.save_carry(point, found)
        ledger.write(point, outcome)
        statuses.append(outcome.status)
        if found is not None:
            if previous is not None and _adjacent(row, previous, point):
                ledger.drop_carry(previous)
            carry, previous = found, point
    return statuses


def _adjacent(row: Sequence[Point], previous: Point, point: Point) -> bool:
    """Whether no failed point, which may be retried from `previous`, lies between."""
    return row.index(point) == row.index(previous) + 1


def run_point(function: Callable[..., Any], point: Point, job: Job, carry: Any = None) -> tuple[Outcome, Any]:
    """What a point gives, and the equilibrium that a continuation carries on; nothing is written."""
    start = time.perf_counter()
    try:
        result = function(**point.params, **_extras(function, point, job, carry))
        values, found = named_arrays(result, point.params), carried(result) if job.continued else None
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Outcome(FAILED, {}, time.perf_counter() - start, text), None
    return Outcome(DONE, values, time.perf_counter() - start), found


def _extras(function: Callable[..., Any], point: Point, job: Job, carry: Any) -> dict[str, Any]:
    given = {"rng": np.random.default_rng(point_seed(job.seed, point)), **({"init": carry} if job.continued else {})}
    return {name: value for name, value in given.items() if accepts(function, name)}


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of this name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def point_seed(seed: int, point: Point) -> np.random.SeedSequence:
    """A seed from the scan's seed and the point's parameters alone, whatever the order of the work."""
    return np.random.SeedSequence(seed, spawn_key=tuple(np.frombuffer(bytes.fromhex(point.key), ">u4").tolist()))


def carried(result: Any) -> "Equilibrium":
    """The equilibrium in a result that the next point of a continuation starts from."""
    if is_a(result, EQUILIBRIUM):
        return result
    if is_a(result, GRADIENT):
        return result.free
    for item in result.values() if isinstance(result, Mapping) else ():
        if is_a(item, EQUILIBRIUM) or is_a(item, GRADIENT):
            return carried(item)
    raise TypeError("With `along`, the function must return an Equilibrium or an EPGradient (alone or in its dict).")


@functools.lru_cache(maxsize=8)
def load_function(function: bytes) -> Callable[..., Any]:
    """The function of a job."""
    return cloudpickle.loads(function)


def blame(job: Job, row: Sequence[Point], reason: str) -> None:
    """Record the first unfinished point of a row as failed."""
    ledger = Ledger(job.folder)
    for point in row:
        if ledger.status(point) == MISSING:
            ledger.write(point, Outcome(FAILED, {}, float("nan"), reason))
            ledger.sync()
            return
