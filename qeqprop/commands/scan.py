"""run a scan described by a TOML file, or go on with it

The file names a function, its axes and an output folder; see `qeqprop.commands.scanfile`. Every finished point is safe
on disk: the same command resumes. --dry-run says what would be run, and measures one point: its time, the memory of its
process, the size of its output. It writes nothing, and its exit code is 1 where that point fails.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import MISSED, OK

if TYPE_CHECKING:
    from ..scans.grid import Grid
    from .scanfile import ScanPlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--out", type=Path, help="folder (default: the file's `out`)")
    parser.add_argument("--workers", type=int, help="processes (default: the file's, else one a core; 0: no others)")
    parser.add_argument("--retry", choices=("failed",), help="run failed points again")
    parser.add_argument(
        "--on-change", choices=("error", "keep", "new"), default="error", help="of the function or seed"
    )
    parser.add_argument("--dry-run", action="store_true", help="size of the scan, from one point; write nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _preview(plan: "ScanPlan", grid: "Grid", out: Path, options: dict[str, Any]) -> int:
    from ..core.memory import available_memory, format_bytes
    from ..scans.ledger import Ledger
    from ..scans.scanning import cores
    from ..scans.trial import try_point

    known = Ledger(out).statuses()
    left = [point for point in grid.points if point.key not in known]
    axes = " x ".join(f"{name} {len(values)}" for name, values in grid.axes.items())
    print(f"{len(grid.points)} points ({axes}), {len(grid.points) - len(left)} of them on disk in {out}")
    point = (left or grid.points)[0]
    print(f"one point, {', '.join(f'{name} = {value}' for name, value in point.params.items())}:", flush=True)
    trial = try_point(plan.function, grid, options.get("rng", 0), point)
    workers = options.get("workers", cores()) or 1
    free = available_memory()
    print(f"  memory per point: {format_bytes(trial.memory)} of its process, so {format_bytes(workers * trial.memory)} with "
          f"{workers} workers (free: {'unknown' if free is None else format_bytes(free)})")  # fmt: skip
    if trial.error:
        print(f"  failed after {trial.seconds:.3g} s: {trial.error}")
        return MISSED
    files, table = len(grid.points) * trial.stored, len(grid.points) * (trial.array + 9)
    print(f"  output size: {format_bytes(trial.stored)} per point, so {format_bytes(files)} in {len(grid.points)} files, and "
          f"{format_bytes(2 * table)} of tables")  # fmt: skip
    rest = len(left) * trial.seconds / workers + trial.first - trial.seconds
    print(f"  time: {trial.first:.3g} s in a fresh process, {trial.seconds:.3g} s from then on, so about {rest:.3g} s for the "
          f"{len(left)} points left")  # fmt: skip
    return OK


def run(args: argparse.Namespace) -> int:
    from ..scans.grid import Grid
    from ..scans.scanning import scan
    from .scanfile import read_plan

    plan = read_plan(args.config)
    out = args.out or plan.out
    if out is None:
        raise ValueError(f"{args.config}: no folder to write to; give `out` in the file, or --out.")
    options = {**plan.options, **({} if args.workers is None else {"workers": args.workers})}
    grid = Grid(plan.axes, options.get("along"))
    if args.dry_run:
        return _preview(plan, grid, out, options)
    table = scan(
        plan.function,
        plan.axes,
        out=out,
        retry=args.retry,
        on_change=args.on_change,
        progress=False if args.quiet else None,
        **options,
    )
    done, failed = (int((table.status == code).sum()) for code in (1, 2))
    print(f"{done} points ok, {failed} failed; wrote {out / 'scan.nc'}")
    return MISSED if failed else OK
