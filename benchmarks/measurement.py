"""Gradients from shots: preparations beside finite differences and SPSA, and what the sampling itself costs.

    OPENBLAS_NUM_THREADS=1 python benchmarks/measurement.py             # some minutes
    OPENBLAS_NUM_THREADS=1 python benchmarks/measurement.py --sizes 4 6

Preparations are those of `studies/shots`: the least number with which the whole gradient of a random all-to-all
transverse-field Ising network has a relative error of 5 %, each method at its best nudge or step. Times are CPU seconds
of one centered gradient, exact and with shots.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

from tables import print_header, print_row

import qeqprop as qp

sys.path.insert(0, str(Path(__file__).parents[1] / "studies" / "shots"))  # the study is a script, not a package
study = importlib.import_module("shots")


def seconds(task: Any, solver: Any, repeats: int = 5) -> float:
    """CPU seconds of one centered gradient, after a warm-up."""
    best = float("inf")
    for key in range(repeats + 1):
        start = time.process_time()
        seed = {"key": key} if solver.stochastic else {}
        qp.ep_gradient(*task, solver=solver, scheme=qp.centered(0.05), throw=False, **seed)
        best = min(best, time.process_time() - start) if key else best
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(study.SIZES), help="numbers of spins")
    parser.add_argument("--instances", type=int, default=study.INSTANCES, help="random networks of every size")
    arguments = parser.parse_args()
    rows = [study.compare(n, k) for n in arguments.sizes for k in range(arguments.instances)]
    print_header("n", "parameters", "settings", "EP", "finite differences / EP", "SPSA / EP")
    for row in study.averages(rows):
        task = study.problem(int(row["spins"]))
        settings = qp.equilibrate(*task[:2], solver=qp.Measured(study.EXACT, 2), key=0).stats["settings"]
        ep, fd, spsa = (row[name] for name in study.METHODS)
        ratios = (f"{fd / ep:.1f}", f"{spsa / ep:.1f}")
        print_row(row["spins"], row["parameters"], settings, f"{ep:.2g}", *ratios)
    print()
    print_header("n", "exact, CPU s", "1000 shots", "100 000 shots")
    for n in (6, 10, 14, 18):
        times = [
            seconds(study.problem(n), s) for s in (study.EXACT, *(qp.Measured(study.EXACT, m) for m in (1000, 10**5)))
        ]
        print_row(n, *(f"{value:.3f}" for value in times))


if __name__ == "__main__":
    main()
