"""`scan`: a function at every point of a grid, on any executor, so that nothing that was computed is ever lost."""

import contextlib
import datetime
import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from ..core.graph import check_count
from ..core.written import called
from .grid import Grid, Point
from .ledger import DONE, FAILED, Ledger
from .pool import SpawnPool
from .provenance import describe_function, git_commit
from .schedule import run_here, run_with_executor, run_with_pool
from .table import build_table
from .work import Job, Report, accepts

if TYPE_CHECKING:
    import xarray as xr

IDENTITY = ("function", "source", "defaults", "seed", "along")
"""What must be the same when a scan goes on."""


def scan(
    function: Callable[..., Any],
    axes: Mapping[str, Any],
    *,
    out: str | os.PathLike[str] | None = None,
    executor: Any = None,
    workers: int | None = None,
    rng: int = 0,
    along: str | None = None,
    on_change: str = "error",
    retry: str | None = None,
    progress: bool | None = None,
) -> "xr.Dataset":
    """Call a function at every combination of the axes' values; the same call goes on where an earlier one stopped.

    Every point is written to one file as soon as it is done, named by a hash of its parameters: whatever process is killed
    then, it is kept. Short points are brought to the disk itself (fsync) together, at the latest after half a second, which is
    what a power failure may cost. A point that raises is recorded and does not stop the scan.

    Args:
        function: `function(**point, rng)` -> numbers, arrays, `Estimate`, `EPGradient`, `Equilibrium`, or a dict of
            these. `rng` (a `numpy.random.Generator` that depends on the point and on the seed alone) is given where the
            function takes it.
        axes: name -> values: numbers, booleans or strings.
        out: folder of the scan; None keeps nothing but what is returned.
        executor: any `concurrent.futures.Executor`; None takes a pool of spawned processes that die with this one. A
            script then needs `if __name__ == "__main__":` around the call.
        workers: number of processes (None: one for each core; 0: run here), or of an `executor`'s workers.
        rng: the seed.
        along: a continuation: points along this axis run in order, and the function is given `init`, the equilibrium
            that it returned (alone, as an `EPGradient`, or in its dict) at the neighbour, None at the first point.
        on_change: where the function (source, defaults), the seed or `along` are not those of the folder's scan: "error";
            "keep" goes on and keeps the old points; "new" puts them aside and starts afresh.
        retry: "failed" runs failed points again.
        progress: a bar on stderr; None: where that is a terminal.

    Returns:
        A Dataset with the axes as dimensions, `<name>` and `<name>_stderr`, `status` (0 missing, 1 ok, 2 failed),
        `error`, `seconds`, and what made it as attributes. It is also written to `out/scan.nc`.

    Raises:
        TypeError, ValueError: bad arguments, or a changed function, before any work.

    Example:
        >>> import qeqprop as qp
        >>> def gap(g, J):
        ...     pair = qp.TransverseFieldIsing(2, [(0, 1)])
        ...     return qp.equilibrate(pair, {"J": [J], "h": [0.1, 0.0], "g": [g, g]})
        >>> table = qp.scan(gap, {"g": [0.5, 1.0], "J": [1.0]}, workers=0)
        >>> table.energy.sel(J=1.0).values.round(4), int((table.status == 1).sum())
        (array([-1.4345, -2.2427]), 2)
    """
    grid = Grid(axes, along)
    _check_function(function, grid)
    _check_choice("on_change", on_change, ("error", "keep", "new"))
    _check_choice("retry", retry, (None, "failed"))
    seed = check_count(rng, "rng", 0)
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(
            f"Argument `executor` must be a concurrent.futures.Executor, but is {called(executor)}; processes of this machine "
            "need none: give their number as `workers`."
        )
    if out is not None and Path(out).is_file():
        raise NotADirectoryError(f"Argument `out` must be a folder, but {out} is a file.")
    n_workers = cores() if workers is None else check_count(workers, "workers", 0)
    with _folder(out) as folder:
        ledger = Ledger(folder)
        manifest = _open(ledger, grid, function, seed, on_change)
        job = Job(str(ledger.folder), cloudpickle.dumps(function), seed, along is not None, retry is not None)
        try:
            for _ in range(2):  # a second time for points whose file turned out to be damaged
                rows = _unfinished(grid, ledger, job)
                _run(job, rows, executor, workers if executor is not None else n_workers, grid, ledger, progress)
                table = build_table(grid, ledger, manifest)
                job = job._replace(retry=False)
                if not (table.status == 0).any():
                    break
        except BaseException:
            if out is not None:
                write_table(build_table(grid, ledger, manifest), ledger.folder / "scan.nc")
            raise
        if out is not None:
            write_table(table, ledger.folder / "scan.nc")
        if (table.status == 2).all():
            warnings.warn(f"All points failed, the first with {table.error.values.flat[0]}", stacklevel=2)
        return table


def open_scan(out: str | os.PathLike[str]) -> "xr.Dataset":
    """The table of a scan's folder as it is now, also while the scan runs.

    Raises:
        FileNotFoundError: there is no scan. StorageError: its manifest is damaged.
    """
    ledger = Ledger(out)
    manifest = None if ledger.folder.is_file() else ledger.read_manifest()
    if manifest is None:
        raise FileNotFoundError(f"{ledger.folder}: no scan there (no manifest.json).")
    return build_table(Grid(manifest["axes"], manifest["along"]), ledger, manifest)


def write_table(table: "xr.Dataset", path: Path) -> Path:
    """An xarray data set as netCDF 4, put in place at once."""
    from ..commands.files import write_netcdf

    return write_netcdf(path, table)


def _check_function(function: Callable[..., Any], grid: Grid) -> None:
    if not callable(function):
        raise TypeError(f"Argument `function` must be callable, but is {type(function).__name__}.")
    given = [*grid.axes, *(["init"] if grid.along else [])]
    for name in given:
        if not accepts(function, name):
            raise TypeError(f"Argument `function` must take an argument `{name}`.")
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if missing := [f"`{name}`" for name in needed if name not in (*given, "rng")]:
        raise TypeError(f"Argument `axes` must name all that the function needs, but has no {', '.join(missing)}.")


def _check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise ValueError(f"Argument `{name}` must be one of {list(choices)}, but is {value!r}.")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _folder(out: Any) -> Any:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="qeqprop-scan-") as folder:
        yield folder


def _open(ledger: Ledger, grid: Grid, function: Callable[..., Any], seed: int, on_change: str) -> dict[str, Any]:
    """The manifest of this call, written; refuses to mix points of different functions."""
    from ..commands.info import versions

    new = {**describe_function(function), "seed": seed, "along": grid.along, "axes": grid.axes}
    old = ledger.read_manifest()
    changed = [name for name in IDENTITY if old is not None and old.get(name) != new[name]]
    if changed and on_change == "error":
        raise ValueError(
            f"{ledger.folder} holds a scan with another {', '.join(changed)}. Pass on_change='new' to put its points "
            "aside and start afresh, on_change='keep' to go on and keep them, or another `out`."
        )
    if changed and on_change == "new":
        ledger.set_points_aside()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    created = now if old is None or changed else old["created"]
    manifest = {**new, "commit": git_commit(function), "created": created, "versions": versions()}
    ledger.write_manifest(manifest)
    return manifest


def _unfinished(grid: Grid, ledger: Ledger, job: Job) -> list[list[Point]]:
    statuses = ledger.statuses()
    finished = (DONE,) if job.retry else (DONE, FAILED)
    return [row for row in grid.rows() if any(statuses.get(point.key) not in finished for point in row)]


def _run(
    job: Job,
    rows: list[list[Point]],
    executor: Any,
    workers: int | None,
    grid: Grid,
    ledger: Ledger,
    progress: bool | None,
) -> None:
    if not rows:
        return
    with _bar(grid, rows, ledger, progress) as tell:
        if executor is not None:
            run_with_executor(executor, workers, job, rows, tell)
        elif not workers:
            run_here(job, rows, tell)
        else:
            with SpawnPool(min(workers, len(rows))) as pool:
                run_with_pool(pool, job, rows, tell)


@contextlib.contextmanager
def _bar(grid: Grid, rows: list[list[Point]], ledger: Ledger, progress: bool | None) -> Any:
    """A progress bar with the numbers of points done and failed; off when stderr is not a terminal."""
    from tqdm.auto import tqdm

    total = sum(len(row) for row in rows)
    failed = 0
    disable = None if progress is None else not progress
    with tqdm(
        total=len(grid.points), initial=len(grid.points) - total, desc="scan", unit="point", disable=disable
    ) as bar:

        def tell(report: Report, rows: Sequence[Sequence[Point]]) -> None:
            nonlocal failed
            ledger.remember(point for row in rows for point in row)
            failed += report.failed
            if failed:
                bar.set_postfix(failed=failed, refresh=False)
            bar.update(report.done + report.failed)

        yield tell
