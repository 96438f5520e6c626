"""Matrix product states: CPU seconds and accuracy of one full gradient by equilibrium propagation.

    OPENBLAS_NUM_THREADS=1 python benchmarks/tensor_networks.py

prints a markdown table, in less than five minutes. Random couplings J = 1 +- 10 % and fields g +- 10 %; the cost is
<X_o + Z_3 Z_4 / 2>, with longitudinal fields <Z_o + Z_3 Z_4 / 2>, o in the middle. `error` is the largest deviation of a
component of J and g (and of h, where it does not vanish by parity) from the reference, whose largest component is `of`;
`bound` is what the gradient says of its residual error. References: free fermions and exact diagonalisation (linear
response), or, for the long chain with fields, finite differences of three components.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from tables import print_header, print_row

import qeqprop as qp
from qeqprop.quantum import MatrixProductGroundState

COLUMNS = (
    "system", "longitudinal field", "reference", "status", "chi", "distance to an eigenstate", "gap", "CPU s", "error", "of",
    "bound", "scheme",
)  # fmt: skip
COMPONENTS = {"J": [3], "h": [4], "g": [5]}


class Task(NamedTuple):
    """One row: a network, whether it has longitudinal fields, the field g, the settings and the reference."""

    name: str
    network: qp.TransverseFieldIsing
    fields: bool
    g: float
    reference: str
    settings: Mapping[str, Any] = {}


def chain(n: int) -> qp.TransverseFieldIsing:
    """An open chain."""
    return qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])


def lattice(length: int, width: int) -> qp.TransverseFieldIsing:
    """An open square lattice, numbered column by column."""
    along = [(i, i + width) for i in range((length - 1) * width)]
    across = [(i, i + 1) for i in range(length * width) if (i + 1) % width]
    return qp.TransverseFieldIsing(length * width, along + across)


def tasks() -> Iterator[Task]:
    """The rows, from small to large."""
    yield Task("chain of 12", chain(12), True, 1.0, "exact")
    yield Task("lattice 4 x 4", lattice(4, 4), True, 2.5, "exact")
    yield Task("chain of 100, gapped", chain(100), False, 1.5, "free fermions")
    yield Task("chain of 100, near-critical", chain(100), False, 1.0, "free fermions")
    yield Task("chain of 100", chain(100), True, 1.0, "finite differences")
    yield Task("lattice 8 x 4", lattice(8, 4), True, 4.0, "none")
    yield Task("lattice 8 x 4, tolerance 1e-5", lattice(8, 4), True, 3.2, "none", {"tolerance": 1e-5})


def reference(task: Task, params: dict[str, np.ndarray], cost: Any, solver: Any) -> dict[str, np.ndarray] | None:
    """The gradient by other means; NaN where it was not taken."""
    if task.reference == "exact":
        return qp.linear_response(task.network, params, cost).grad
    if task.reference == "free fermions":
        return qp.linear_response(task.network, params, cost, solver=qp.FreeFermions()).grad
    if task.reference == "finite differences":
        return qp.finite_difference(task.network, params, cost, solver=solver, components=COMPONENTS, step=3e-3).grad
    return None


def row(task: Task) -> tuple[object, ...]:
    """One line of the table."""
    rng, n = np.random.default_rng(1), task.network.n_sites
    params = {
        "J": rng.uniform(0.9, 1.1, len(task.network.edges)),
        "h": 0.1 * rng.normal(size=n) * task.fields,
        "g": task.g * rng.uniform(0.9, 1.1, n),
    }
    middle = qp.Z(n // 2) if task.fields else qp.X(n // 2)
    cost = qp.ObservableCost(middle + 0.5 * qp.Z(3) * qp.Z(4))
    started = time.process_time()
    out = qp.ep_gradient(task.network, params, cost, solver=MatrixProductGroundState(**task.settings), throw=False)
    seconds = time.process_time() - started
    compared = ("J", "h", "g") if task.fields else ("J", "g")
    error = size = "-"
    other = reference(task, params, cost, MatrixProductGroundState(gap_bond=None, **task.settings))
    if other is not None:
        error = f"{max(np.nanmax(np.abs(out.grad[name] - other[name])) for name in compared):.1e}"
        size = f"{max(np.nanmax(np.abs(other[name])) for name in compared):.2g}"
    stats = out.free.stats
    distance, kind = np.sqrt(stats["energy_variance"]), "random" if task.fields else "0"
    known = (out.status, stats["bond_dimension"], f"{distance:.1e}", f"{float(out.free.gap):.4g}", f"{seconds:.1f}")
    return task.name, kind, task.reference, *known, error, size, f"{out.residual:.1e}", out.scheme


def main() -> None:
    """Print the table."""
    print_header(*COLUMNS)
    for task in tasks():
        print_row(*row(task))


if __name__ == "__main__":
    main()
