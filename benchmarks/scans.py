"""What a scan costs beside the work itself: `qeqprop.scan` against bare loops over the same executors.

python benchmarks/scans.py                # 200 points of 30 ms on 2 workers

Every loop makes its own pool and returns all values; `scan` also writes one file a point with fsync, and the table.
"""

import functools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from tables import print_header, print_row

import qeqprop as qp
from qeqprop.scans.grid import Grid
from qeqprop.scans.ledger import DONE, Ledger, Outcome

POINTS, SECONDS, WORKERS = 200, 0.03, 2


def work(x: int) -> float:
    """One short point."""
    time.sleep(SECONDS)
    return float(x)


def bare_pool() -> None:
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(work, range(POINTS)))


def scan_pool() -> None:
    with tempfile.TemporaryDirectory() as folder:
        qp.scan(work, {"x": range(POINTS)}, out=folder, workers=WORKERS, progress=False)


def with_dask(run: Callable[[Any], object]) -> float:
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=WORKERS, **options) as cluster, Client(cluster) as client:
        return measured(functools.partial(run, client))


def bare_dask(client: Any) -> None:
    client.gather(client.map(work, range(POINTS)))


def scan_dask(client: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        executor = client.get_executor()
        qp.scan(work, {"x": range(POINTS)}, out=folder, executor=executor, workers=WORKERS, progress=False)


def measured(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def row(name: str, seconds: float, bare: float) -> None:
    overhead = 1e3 * (seconds - POINTS * SECONDS / WORKERS) / POINTS
    print_row(name, f"{seconds:.2f}", f"{overhead:.1f}", f"{seconds / bare:.2f}")


def main() -> None:
    print_header("loop", "seconds", "overhead, ms a point", "ratio to the bare loop")
    pool = min(measured(bare_pool) for _ in range(3))
    row("ProcessPoolExecutor, spawned", pool, pool)
    row("scan", min(measured(scan_pool) for _ in range(3)), pool)
    dask = min(with_dask(bare_dask) for _ in range(3))
    row("dask LocalCluster", dask, dask)
    row("scan with dask", min(with_dask(scan_dask) for _ in range(3)), dask)
    grid = Grid({"a": range(1000), "b": range(100)})
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(folder)
        ledger.write_manifest({"function": "none", "along": None, "seed": 0, "axes": grid.axes})
        for point in grid.points:
            ledger.write(point, Outcome(DONE, {"m": np.array(1.0), "m_stderr": np.array(0.1)}, 0.1))
        for what in ("for the first time", "again"):
            seconds = measured(functools.partial(qp.open_scan, folder))
            print(f"\ntable of {len(grid.points)} points opened {what}: {seconds:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
