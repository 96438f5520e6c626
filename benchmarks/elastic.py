"""Elastic and flow networks: the whole EP gradient of all their parameters, in CPU seconds.

python benchmarks/elastic.py [side ...]      # side 100: 10^4 nodes; 316: 10^5 nodes, a minute
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial import Delaunay
from tables import print_header, print_row

import qeqprop as qp
from qeqprop.classical import ElasticNetwork, FlowNetwork, StateCost

Problem = tuple[Any, dict[str, np.ndarray], np.ndarray]


def elastic(side: int) -> Problem:
    """A disordered triangular network with prestress: bottom row pinned, last node driven. With parameters and inputs."""
    rng = np.random.default_rng(0)
    rows, columns = np.divmod(np.arange(side * side), side)
    points = np.stack([columns + 0.5 * (rows % 2), rows * np.sqrt(0.75)], axis=1) + 0.1 * rng.normal(
        size=(side * side, 2)
    )
    corners = np.sort(Delaunay(points).simplices, axis=1)
    pairs = np.unique(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]]), axis=0)
    pairs = pairs[np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1) < 2]  # no slivers at the rim
    net = ElasticNetwork([(int(i), int(j)) for i, j in pairs], points, pinned=range(side), driven=[side * side - 1])
    params = net.init_params(rng)
    params["l"] = params["l"] * (1 + 0.05 * rng.normal(size=len(pairs)))
    return net, params, np.array([[0.3, 0.2]])


def flow(side: int) -> Problem:
    """Conductances on the same graph: bottom row grounded, last node driven, a current injected beside it."""
    n_nodes = side * side
    edges = elastic(side)[0].edges
    net = FlowNetwork(n_nodes, edges, driven=[n_nodes - 1], grounded=range(side), injected=[n_nodes - side])
    return net, net.init_params(0), np.array([1.0, 0.5])


SYSTEMS: dict[str, Callable[[int], Problem]] = {"elastic": elastic, "flow": flow}


def timed(work: Callable[..., Any], *args: Any, **options: Any) -> tuple[float, Any]:
    """CPU seconds (the better of two runs) and the result."""
    seconds = []
    for _ in range(2):
        started = time.process_time()
        result = work(*args, **options)
        seconds.append(time.process_time() - started)
    return min(seconds), result


def row(name: str, side: int) -> tuple[str, ...]:
    """One size. Finite differences take two solves a parameter, from the start, or from the free state with its factor; one of
    each is timed. They can win nothing like the number of parameters: a nudged state is itself such a solve."""
    net, params, inputs = SYSTEMS[name](side)
    node = side * side // 2 + side // 2
    cold, free = timed(qp.equilibrate, net, params, inputs=inputs)
    target = free.state.position[[node]] + 0.1
    problem = (net, params, StateCost(lambda r, y: ((r - y) ** 2).sum(), nodes=[node]), target)
    ep, out = timed(qp.ep_gradient, *problem, scheme=qp.centered(1e-4), inputs=inputs, init=free)
    response, exact = timed(qp.linear_response, *problem, inputs=inputs, init=free)
    errors = {name: np.linalg.norm(out.grad[name] - grad) / np.linalg.norm(grad) for name, grad in exact.grad.items()}
    moved = {**params, "k": params["k"] * (1 + 1e-6 * (np.arange(len(net.edges)) == 7))}
    solves = 2 * len(params) * len(net.edges)
    warm = timed(qp.equilibrate, net, moved, inputs=inputs, init=free)[0]
    ratios = (f"{solves * seconds / ep:.1e}" for seconds in (cold, warm))
    figures = (f"{cold:.2f}", f"{ep:.2f}", f"{response:.2f}", f"{max(errors.values()):.1e}", *ratios)
    return name, str(side * side), str(len(net.edges)), *figures


def main(sides: list[int]) -> None:
    """One row a size."""
    print_header(
        "system", "nodes", "edges", "cold solve", "EP centered", "response", "relative difference",
        "finite differences / EP: cold", "warm",
    )  # fmt: skip
    for name in SYSTEMS:
        for side in sides:
            print_row(*row(name, side))


if __name__ == "__main__":
    main([int(side) for side in sys.argv[1:]] or [32, 100])
