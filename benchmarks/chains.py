"""Long chains and thermal states: CPU seconds of one full gradient by equilibrium propagation and by linear response.

    OPENBLAS_NUM_THREADS=1 python benchmarks/chains.py

prints a markdown table. The gradient of <X_o + Z_o Z_(o+1)> in the middle of a chain with slightly random couplings is
taken by all J, h and g. `deviation` is that of the nudged gradient from the linear response, relative in norm.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from tables import print_header, print_row

import qeqprop as qp


def chain(n: int, *, closed: bool, g: float) -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray], Any]:
    """Network, parameters and cost."""
    edges = [(i, (i + 1) % n) for i in range(n if closed else n - 1)]
    rng = np.random.default_rng(0)
    params = {"J": rng.uniform(0.95, 1.05, len(edges)), "h": np.zeros(n), "g": g * rng.uniform(0.95, 1.05, n)}
    o = n // 2
    return qp.TransverseFieldIsing(n, edges), params, qp.ObservableCost(qp.X(o) + qp.Z(o - 1) * qp.Z(o))


def cases() -> Iterator[tuple[str, int, bool, float, Any]]:
    """(name, size, ring, field, solver)."""
    for n in (100, 1000, 5000):
        for g in (1.0, 0.3):
            yield "free fermions, open chain", n, False, g, qp.FreeFermions()
    for n in (100, 1000):
        yield "free fermions, ring", n, True, 0.8, qp.FreeFermions()
    for n in (6, 8, 10):
        yield "Gibbs state, T = 0.5", n, False, 1.0, qp.GibbsState(0.5)


def row(name: str, n: int, closed: bool, g: float, solver: Any) -> tuple[str, ...]:
    """One line of the table."""
    network, params, cost = chain(n, closed=closed, g=g)
    outs, seconds = [], []
    for scheme in (None, qp.LinearResponse()):
        started = time.process_time()
        outs.append(qp.ep_gradient(network, params, cost, solver=solver, scheme=scheme))
        seconds.append(time.process_time() - started)
    nudged, response = (np.concatenate(list(out.grad.values())) for out in outs)
    deviation = np.linalg.norm(nudged - response) / np.linalg.norm(response)
    times = (f"{value:.3f}" for value in seconds)
    return name, str(n), f"{g:g}", *times, f"{deviation:.1e}", str(outs[0].scheme)


def main() -> None:
    """Print the table."""
    for closed in (False, True):  # compile and import outside the measurement
        network, params, cost = chain(4, closed=closed, g=1.0)
        for solver in (qp.FreeFermions(), qp.GibbsState(1.0)):
            qp.ep_gradient(network, params, cost, solver=solver)
            qp.linear_response(network, params, cost, solver=solver)
    print_header("solver", "sites", "g", "EP, CPU s", "linear response, CPU s", "deviation", "scheme")
    for case in cases():
        print_row(*row(*case))


if __name__ == "__main__":
    main()
