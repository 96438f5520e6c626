"""Which solver does which system, at which size, in what time and memory: whole gradients by each solver's default scheme.

    python benchmarks/solvers.py                     # all rows, a few minutes
    python benchmarks/solvers.py --only "free fermions" "harmonic"

Every row runs in a process of its own, with one thread: first a small case of the same kind (compilation is not counted),
then the case itself. Time is CPU time, memory the growth of the peak resident set.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tables import print_header, print_row

SINGLE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class Row(NamedTuple):
    """A line of the table: `make(size)` returns the arguments of `ep_gradient` as (positional, named)."""

    solver: str
    system: str
    make: Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]]
    size: int
    small: int
    unit: str


def network(n: int, edges: Any, seed: int = 0) -> tuple[Any, dict[str, np.ndarray]]:
    """A transverse-field Ising network with random couplings and fields of order 1."""
    import qeqprop as qp

    rng = np.random.default_rng(seed)
    net = qp.TransverseFieldIsing(n, edges)
    params = {"J": rng.normal(size=len(edges)), "h": rng.normal(size=n), "g": rng.uniform(0.8, 1.5, size=n)}
    return net, params


def chain(n: int) -> list[tuple[int, int]]:
    """Edges of an open chain."""
    return [(i, i + 1) for i in range(n - 1)]


def all_pairs(n: int) -> list[tuple[int, int]]:
    """Edges of the complete graph."""
    return [(i, j) for i in range(n) for j in range(i)]


def spins(solver: Callable[[], Any], edges: Callable[[int], Any], **options: Any) -> Callable[[int], Any]:
    """Random networks with the cost Z_0 Z_(n-1) + X_1 / 2."""

    def make(n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        import qeqprop as qp

        cost = qp.ObservableCost(qp.Z(0) * qp.Z(n - 1) + 0.5 * qp.X(1))
        return (*network(n, edges(n)), cost), {"solver": solver(), **options}

    return make


def without_fields(solver: Callable[[], Any]) -> Callable[[int], Any]:
    """A gapped chain without longitudinal fields, cost X_1."""

    def make(n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        import qeqprop as qp

        net, params = network(n, chain(n))
        params = {"J": np.abs(params["J"]) / 2, "h": np.zeros(n), "g": params["g"]}
        return (net, params, qp.ObservableCost(qp.X(n // 2))), {"solver": solver()}

    return make


def batch(n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Thirty-two samples of an all-to-all network."""
    import qeqprop as qp

    rng = np.random.default_rng(1)
    net = qp.TransverseFieldIsing(n, all_pairs(n), input_sites=range(4))
    cost = qp.ExpectationCost([qp.Z(n - 2), qp.Z(n - 1)])
    targets, inputs = rng.normal(size=(32, 2)), rng.normal(size=(32, 4))
    return (net, net.init_params(0), cost, targets), {"inputs": inputs, "scheme": qp.LinearResponse()}


def lattice(solver: Callable[[], Any]) -> Callable[[int], Any]:
    """A square lattice of oscillators; the size is the number of nodes."""

    def make(n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        import qeqprop as qp

        side = round(np.sqrt(n))
        at = np.arange(n).reshape(side, side)
        edges = [
            *zip(at[:, :-1].ravel(), at[:, 1:].ravel(), strict=True),
            *zip(at[:-1].ravel(), at[1:].ravel(), strict=True),
        ]
        net = qp.HarmonicNetwork(n, edges)
        rng = np.random.default_rng(0)
        params = {name: rng.uniform(0.5, 1.5, shape) for name, shape in net.param_shapes.items()}
        return (net, params, qp.ObservableCost((qp.R(n // 2) - 0.5) ** 2)), {"solver": solver()}

    return make


def fock(levels: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Three oscillators with quartic terms; the size is the number of levels."""
    import qeqprop as qp

    net = qp.HarmonicNetwork(3, chain(3), trainable=("k", "kappa", "f"))
    space = qp.quantum.FockSpace(net, levels, trainable=("quartic",))
    params = {"k": np.ones(2), "kappa": np.ones(3), "f": np.array([0.3, 0.0, 0.1]), "quartic": np.full(3, 0.1)}
    solver = qp.quantum.FockSolver(max_population=1e-4)
    return (space, params, qp.ObservableCost(qp.R(2) ** 2)), {"solver": solver}


def elastic(side: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A disordered triangular network of side^2 nodes."""
    from elastic import network as disordered

    from qeqprop.classical import StateCost

    net, params = disordered(side)
    node = side * side // 2
    cost = StateCost(lambda r, y: ((r - y) ** 2).sum(), nodes=[node])
    return (net, params, cost, net.reference[[node]] + 0.1), {"inputs": np.array([[0.3, 0.2]])}


def rows() -> list[Row]:
    """The table."""
    import qeqprop as qp
    from qeqprop import quantum

    exact, cold = qp.ExactDiagonalization, qp.GibbsState(1.0)
    ramps, dense = qp.AdiabaticPreparation(100.0, "quintic", tolerance=np.inf), qp.GaussianGroundState(dense_size=10**6)
    response = {"scheme": qp.LinearResponse()}
    return [
        Row("`ExactDiagonalization`", "all-to-all, batch of 32", batch, 10, 6, "spins"),
        Row("`ExactDiagonalization`", "all-to-all", spins(exact, all_pairs, **response), 16, 15, "spins"),
        Row("`ExactDiagonalization`", "all-to-all", spins(exact, all_pairs, **response), 20, 15, "spins"),
        Row("`ExactDiagonalization(level=3)`", "chain", spins(lambda: exact(level=3), chain, **response), 16, 11, "spins"),
        Row("`FreeFermions`", "open chain", without_fields(qp.FreeFermions), 1000, 10, "spins"),
        Row("`FreeFermions`", "open chain", without_fields(qp.FreeFermions), 5000, 10, "spins"),
        Row("`MatrixProductGroundState`", "chain", without_fields(quantum.MatrixProductGroundState), 100, 8, "spins"),
        Row("`MatrixProductGroundState`", "chain with fields", spins(quantum.MatrixProductGroundState, chain), 100, 8, "spins"),
        Row("`GibbsState(1)`", "all-to-all", spins(lambda: cold, all_pairs, **response), 10, 4, "spins"),
        Row("`ThermalPureStates(1)`", "chain", spins(lambda: qp.ThermalPureStates(1.0), chain, key=1), 16, 8, "spins"),
        Row("`GaussianGroundState`, dense", "square lattice", lattice(lambda: dense), 400, 9, "nodes"),
        Row("`GaussianGroundState`, sparse", "square lattice", lattice(qp.GaussianGroundState), 10_000, 400, "nodes"),
        Row("`GibbsState(1)`", "square lattice", lattice(lambda: cold), 400, 9, "nodes"),
        Row("`FockSolver`", "3 quartic oscillators", fock, 14, 6, "levels each"),
        Row("`Measured(exact, 10**5)`", "chain", spins(lambda: qp.Measured(exact(), 100_000), chain, key=1), 10, 4, "spins"),
        Row("`AdiabaticPreparation(100)`", "chain", spins(lambda: ramps, chain), 10, 4, "spins"),
        Row("`Minimizer`", "elastic network of side²", elastic, 100, 10, "nodes a side"),
    ]  # fmt: skip


def measure(index: int) -> dict[str, Any]:
    """CPU seconds, memory and outcome of one row."""
    import qeqprop as qp

    row = rows()[index]
    positional, named = row.make(row.small)
    qp.ep_gradient(*positional, throw=False, **named)
    positional, named = row.make(row.size)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    out = qp.ep_gradient(*positional, throw=False, **named)
    seconds = time.process_time() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    norm = np.sqrt(sum(np.sum(value**2) for value in out.grad.values()))
    error = np.sqrt(sum(np.sum(out.stderr[n] ** 2 + np.nan_to_num(out.truncation[n]) ** 2) for n in out.grad)) / norm
    return {
        "parameters": sum(value.size for value in out.grad.values()),
        "scheme": str(out.scheme).split("(")[0],
        "seconds": seconds,
        "memory": memory,
        "error": float(error),
        "status": str(out.status),
    }


def figures(index: int) -> tuple[str, ...]:
    """The rest of a row, measured in a process of its own."""
    command = [sys.executable, __file__, "--row", str(index)]
    run = subprocess.run(command, env=os.environ | SINGLE, capture_output=True, text=True, check=False)
    if run.returncode:
        return ("", "", "", "", "", f"failed: {run.stderr.strip().splitlines()[-1]}")
    r = json.loads(run.stdout.splitlines()[-1])
    cost = (f"{r['seconds']:.2g}", f"{max(r['memory'], 0):.0f}")
    return str(r["parameters"]), r["scheme"], *cost, f"{r['error']:.0e}", r["status"]


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[""], help="words of the solvers or systems wanted")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.row is not None:
        print(json.dumps(measure(options.row)))
        return
    measured = ("parameters", "scheme", "CPU s", "MiB", "reported error", "status")
    print_header("solver", "system", "size", *measured)
    for index, row in enumerate(rows()):
        if not any(word.lower() in f"{row.solver} {row.system}".lower() for word in options.only):
            continue
        print_row(row.solver, row.system, f"{row.size} {row.unit}", *figures(index))


if __name__ == "__main__":
    main()
