"""run a scan described by a TOML file, or go on with it

The file names a function, its axes and an output folder; see `qeqprop.commands.scanfile`. Every finished point is safe
on disk: the same command resumes. --dry-run only says what would be run.
"""

import argparse
from pathlib import Path

from . import MISSED, OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--out", type=Path, help="folder (default: the file's `out`)")
    parser.add_argument("--workers", type=int, help="processes (default: the file's, else one a core; 0: no others)")
    parser.add_argument("--retry", choices=("failed",), help="run failed points again")
    parser.add_argument(
        "--on-change", choices=("error", "keep", "new"), default="error", help="of the function or seed"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the size of the scan and stop")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    from ..scans.grid import Grid
    from ..scans.ledger import Ledger
    from ..scans.scanning import scan
    from .scanfile import read_plan

    plan = read_plan(args.config)
    out = args.out or plan.out
    if out is None:
        raise ValueError(f"{args.config}: no folder to write to; give `out` in the file, or --out.")
    options = {**plan.options, **({} if args.workers is None else {"workers": args.workers})}
    grid = Grid(plan.axes, options.get("along"))
    if args.dry_run:
        known = Ledger(out).statuses()
        have = sum(point.key in known for point in grid.points)
        axes = " x ".join(f"{name} {len(values)}" for name, values in grid.axes.items())
        print(f"{len(grid.points)} points ({axes}), {have} of them on disk in {out}")
        return OK
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
