"""Training by centered equilibrium propagation on held-out data, beside frozen couplings and logistic regression.

    python benchmarks/training.py                 # five seeds of every task, as a markdown table
    python benchmarks/training.py --quick         # one seed of everything, half the passes
    python benchmarks/training.py --seeds 3 --tasks digits iris

A seed draws the split (or the samples), the initial parameters and the shuffling. Seconds are CPU time of the training
by equilibrium propagation, all threads and compilation included. One BLAS thread: `OPENBLAS_NUM_THREADS=1`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from tables import print_header, print_row

from qeqprop.tasks import Task, TaskResult, digits10_task, digits_task, iris_task, phases_task, run_task


class Case(NamedTuple):
    """A row of the table: what is trained, and the mean test accuracy that it must (or must not) reach."""

    title: str
    make: Callable[[], Task]
    target: float
    at_most: bool = False


CASES = {
    "digits": Case("digits 0, 1, 2", digits_task, 0.95),
    "digits10": Case("all ten digits", digits10_task, 0.85),
    "iris": Case("iris", iris_task, 0.93),
    "phases": Case("phase sensor", phases_task, 0.90),
    "phases-z": Case("phase sensor, Z only (control)", lambda: phases_task(coupling="Z"), 0.70, at_most=True),
}
COLUMNS = (
    "task", "spins", "parameters", "EP", "frozen couplings", "untrained", "logistic regression", "CPU s", "target",
)  # fmt: skip


def measure(case: Case, seeds: Sequence[int], quick: bool) -> list[TaskResult]:
    """One training a seed; progress goes to stderr."""
    task, results = case.make(), []
    for seed in seeds:
        results.append(run_task(task, seed=seed, epochs=max(1, task.epochs // 2) if quick else None, progress=False))
        print(results[-1], file=sys.stderr, flush=True)
    return results


def row(case: Case, results: list[TaskResult], quick: bool) -> tuple[list[str], bool]:
    """The cells of a case, and whether its target is met (half a training is not judged)."""
    mean = float(np.mean([result.trained for result in results]))
    met = mean <= case.target if case.at_most else mean >= case.target
    names = ("trained", "frozen", "untrained", "logistic")
    cells = [case.title, str(case.make().system.n_sites), str(results[0].n_params)]
    cells += [percent([getattr(result, name) for result in results]) for name in names]
    cells += [f"{np.mean([result.seconds for result in results]):.1f}"]
    verdict = "" if quick else ": met" if met else ": missed"
    cells += [f"{'<=' if case.at_most else '>='} {100 * case.target:.0f} %{verdict}"]
    return cells, met


def percent(values: list[float]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values):.1f} %"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, half the passes (targets are then not judged)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error(f"--seeds must be at least 1, but is {args.seeds}")
    seeds = range(1 if args.quick else args.seeds)
    print_header(*COLUMNS)
    all_met = True
    for name in args.tasks:
        cells, met = row(CASES[name], measure(CASES[name], seeds, args.quick), args.quick)
        print_row(*cells)
        all_met &= met
    print(f"\nTest accuracy, mean ± standard deviation over {len(seeds)} seed{'s' * (len(seeds) > 1)}.")
    return 0 if all_met or args.quick else 1


if __name__ == "__main__":
    sys.exit(main())
