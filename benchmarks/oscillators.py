"""Harmonic networks: sparse beside dense linear algebra and beside finite differences. CPU time, one BLAS thread.

    python benchmarks/oscillators.py              # up to 4 x 10^4 nodes, about 2 minutes
    python benchmarks/oscillators.py --sides 20 100

Square lattices with random springs, on-site stiffness, rest offsets and forces; the cost is (R_o - 1/2)^2 of a node in
the middle, quantum variance included; the gradient is that of every k, l, kappa and f. Every measurement runs in a
process of its own after a warm-up on a small lattice (compilation is not counted); memory is the growth of the peak
resident set. Finite differences take four solves a parameter, of which one is timed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tables import print_header, print_row

SINGLE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")
DENSE_UP_TO = 40  # side of the largest lattice that the dense method is shown for


def lattice(side: int) -> tuple[Any, dict[str, np.ndarray], Any]:
    """Network, parameters and cost."""
    import qeqprop as qp

    n, index = side**2, np.arange(side**2).reshape(side, side)
    across = np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], axis=1)
    down = np.stack([index[:-1].ravel(), index[1:].ravel()], axis=1)
    edges = [*across.tolist(), *down.tolist()]
    rng = np.random.default_rng(0)
    params = {
        "k": rng.uniform(0.5, 1.5, len(edges)),
        "l": 0.1 * rng.normal(size=len(edges)),
        "kappa": rng.uniform(0.05, 0.2, n),
        "f": rng.normal(size=n),
    }
    cost = qp.ObservableCost((qp.R(n // 2 + side // 2) - 0.5) ** 2)
    return qp.HarmonicNetwork(n, edges), params, cost


def task(work: str, side: int, dense: bool) -> dict[str, Any]:
    """CPU seconds and memory of one piece of work, and (for small lattices) the gradient."""
    import qeqprop as qp

    solver = qp.GaussianGroundState(dense_size=10**9 if dense else 0)
    jobs: dict[str, Callable[[Any, Any, Any], Any]] = {
        "solve": lambda net, p, cost: qp.equilibrate(net, p, solver=solver),
        "response": lambda net, p, cost: qp.linear_response(net, p, cost, solver=solver),
        "centered": lambda net, p, cost: qp.ep_gradient(net, p, cost, solver=solver, scheme=qp.centered(1e-3)),
    }
    jobs[work](*lattice(4))
    problem = lattice(side)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    out = jobs[work](*problem)
    cpu = time.process_time() - start
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    grad = np.concatenate([g.ravel() for g in out.grad.values()]).tolist() if work != "solve" and side <= 40 else []
    count = sum(value.size for value in problem[1].values())
    return {"cpu": cpu, "mib": mib, "grad": grad, "parameters": count}


def in_subprocess(**options: Any) -> dict[str, Any]:
    """Run `task` in a fresh interpreter."""
    command = [sys.executable, str(Path(__file__).resolve()), "--task", json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **SINGLE}, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(side: int) -> list[str]:
    """One line of the table."""
    solve, response, centered = (
        in_subprocess(work=work, side=side, dense=False) for work in ("solve", "response", "centered")
    )
    dense, error = "-", "-"
    if side <= DENSE_UP_TO:
        reference = in_subprocess(work="response", side=side, dense=True)
        dense = f"{reference['cpu']:.3f}"
        error = f"{np.abs(np.subtract(response['grad'], reference['grad'])).max():.1e}"
    differences = 4 * response["parameters"] * solve["cpu"]
    return [
        str(side**2),
        str(response["parameters"]),
        dense,
        f"{solve['cpu']:.3f}",
        f"{response['cpu']:.3f}",
        f"{centered['cpu']:.3f}",
        f"{response['mib']:.0f}",
        error,
        f"{differences / response['cpu']:.1e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="*", type=int, default=[10, 20, 40, 100, 200], help="sides of the lattices")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(task(**arguments.task)))
        return
    header = [
        "nodes",
        "parameters",
        "dense response, CPU s",
        "sparse solve, CPU s",
        "sparse response (solve included), CPU s",
        "sparse centered EP, CPU s",
        "MiB (response)",
        "sparse - dense, largest",
        "finite differences / response",
    ]
    print_header(*header)
    for side in arguments.sides:
        print_row(*row(side))


if __name__ == "__main__":
    main()
