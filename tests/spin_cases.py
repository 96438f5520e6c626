"""Spin networks with and without inputs, in qeqprop's words and as Kronecker products."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import qeqprop as qp
from qeqprop.quantum import cluster_ising, heisenberg, phase_sensor, phase_sensor_cost, xxz

from .oracle import Case, Params, on, sum_over


def tfim_matrix(n: int, edges: Any) -> Callable[[Mapping[str, np.ndarray], Any], np.ndarray]:
    """H = -sum J ZZ - sum h Z - sum g X."""
    zz, zs, xs = ([on(n, f"Z{i} Z{j}") for i, j in edges], *([on(n, f"{p}{i}") for i in range(n)] for p in "ZX"))

    def matrix(p: Mapping[str, np.ndarray], x: Any) -> np.ndarray:
        return np.zeros((2**n, 2**n)) - sum_over(p["J"], zz) - sum_over(p["h"], zs) - sum_over(p["g"], xs)

    return matrix


def square(o: np.ndarray, y: Any) -> float:
    """The squared error of `qp.squared_error`, once more."""
    return float(np.sum((o - y) ** 2))


def softmax_loss(o: np.ndarray, y: Any) -> float:
    """The loss of `qp.cross_entropy`, once more."""
    return float(-np.sum(y * (4 * o - np.log(np.sum(np.exp(4 * o))))))


def product_loss(o: Any, y: Any) -> Any:
    """A loss of one's own: not a sum over outputs."""
    return (o[0] * o[1] - y) ** 2 + 0.3 * o[0] ** 3


def _random(seed: int, **shapes: int) -> Params:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=size) for name, size in shapes.items()}


def _single_spin() -> Case:
    return Case(
        "single spin",
        qp.TransverseFieldIsing(1, []),
        {"J": np.zeros(0), "h": np.array([0.6]), "g": np.array([0.8])},
        qp.ObservableCost(qp.Z(0)),
        tfim_matrix(1, []),
        (on(1, "Z0"),),
    )


def _pair() -> Case:
    return Case(
        "two-spin TFIM",
        qp.TransverseFieldIsing(2, [(0, 1)]),
        {"J": np.array([1.0]), "h": np.array([0.3, 0.0]), "g": np.array([1.0, 0.7])},
        qp.ObservableCost(qp.Z(1)),
        tfim_matrix(2, [(0, 1)]),
        (on(2, "Z1"),),
    )


def _chain() -> Case:
    edges = [(0, 1), (1, 2), (2, 3)]
    return Case(
        "chain with fields",
        qp.TransverseFieldIsing(4, edges),
        {"J": np.array([1.0, -0.7, 0.4]), "h": np.array([0.3, -0.2, 0.5, 0.1]), "g": np.array([0.9, 1.1, 0.6, 0.8])},
        qp.ObservableCost(qp.Z(0) * qp.Z(3) + 0.5 * qp.X(1) - 2.0),
        tfim_matrix(4, edges),
        (on(4, "Z0 Z3") + 0.5 * on(4, "X1") - 2 * np.eye(16),),
    )


def _all_to_all() -> Case:
    edges = [(i, j) for i in range(6) for j in range(i)]
    params = _random(3, J=15, h=6) | {"g": np.linspace(0.8, 1.6, 6)}
    params["J"] /= np.sqrt(6)
    return Case(
        "all-to-all random",
        qp.TransverseFieldIsing(6, edges),
        params,
        qp.ObservableCost(qp.Z(5)),
        tfim_matrix(6, edges),
        (on(6, "Z5"),),
    )


def _heisenberg() -> Case:
    edges = [(0, 1), (1, 2), (2, 3)]
    bonds = [sum(on(4, f"{p}{i} {p}{j}") for p in "XYZ").real for i, j in edges]
    return Case(
        "Heisenberg chain",
        heisenberg(4, edges),
        {"J": np.array([1.0, 0.6, 0.8])},
        qp.ObservableCost(qp.Z(0) * qp.Z(1)),
        lambda p, x: sum_over(p["J"], bonds),
        (on(4, "Z0 Z1"),),
    )


def _xxz() -> Case:
    edges = [(i, (i + 1) % 5) for i in range(5)]
    xy = [(on(5, f"X{i} X{j}") + on(5, f"Y{i} Y{j}")).real for i, j in edges]
    zz, zs = [on(5, f"Z{i} Z{j}") for i, j in edges], [on(5, f"Z{i}") for i in range(5)]
    return Case(
        "XXZ ring with fields",
        xxz(5, edges),
        {
            "Jxy": np.array([1.0, 0.8, 1.1, 0.9, 1.2]),
            "Jz": np.array([0.5, 0.6, 0.4, 0.3, 0.5]),
            "h": np.array([0.9, -0.6, 0.5, 0.4, -0.2]),
        },
        qp.ObservableCost(qp.Z(0) + 0.5 * qp.Z(2)),
        lambda p, x: sum_over(p["Jxy"], xy) + sum_over(p["Jz"], zz) - sum_over(p["h"], zs),
        (on(5, "Z0") + 0.5 * on(5, "Z2"),),
    )


def _one_y() -> Case:
    labels = ["X0", "Y1", "Z2", "Z0 Z1", "Y1 Z2", "X0 X2"]
    operators = [qp.PauliSum.from_labels({label: 1.0}) for label in labels]
    matrices = [on(3, label) for label in labels]
    return Case(
        "complex, with Y",
        qp.SpinNetwork(3, {"a": operators[:3], "b": operators[3:]}, fixed=0.3 * qp.X(1)),
        {"a": np.array([-0.9, 0.7, 0.8]), "b": np.array([0.6, -0.5, 0.4])},
        qp.ObservableCost(qp.Y(1) * qp.X(2) + qp.Z(0)),
        lambda p, x: sum_over([*p["a"], *p["b"]], matrices) + 0.3 * on(3, "X1"),
        (on(3, "Y1 X2") + on(3, "Z0"),),
        real=False,
    )


def _cost_with_y() -> Case:
    """A real Hamiltonian and a complex one for the forces only: the ground state is real, the cost is not."""
    edges, n = [(0, 1), (1, 2)], 3
    matrix, y_term = tfim_matrix(n, edges), on(3, "Y0 Z1")
    operators = {
        "J": [-qp.Z(i) * qp.Z(j) for i, j in edges],
        "h": [-qp.Z(i) for i in range(n)],
        "g": [-qp.X(i) for i in range(n)],
        "y": [qp.Y(0) * qp.Z(1)],
    }
    return Case(
        "Y at zero strength",
        qp.SpinNetwork(n, operators),
        {"J": np.array([0.8, -0.5]), "h": np.array([0.3, 0.2, -0.4]), "g": np.array([1.0, 0.7, 0.9]), "y": np.zeros(1)},
        qp.ObservableCost(qp.Y(0) * qp.Z(2) + qp.X(2)),
        lambda p, x: matrix(p, x) + p["y"][0] * y_term,
        (on(3, "Y0 Z2") + on(3, "X2"),),
        real=False,
    )


def _cluster() -> Case:
    n = 5
    zxz, zz, xs = (
        sum(on(n, f"Z{i} X{(i + 1) % n} Z{(i + 2) % n}") for i in range(n)),
        sum(on(n, f"Z{i} Z{(i + 1) % n}") for i in range(n)),
        sum(on(n, f"X{i}") for i in range(n)),
    )
    return Case(
        "cluster-Ising ring",
        cluster_ising(n),
        {"g_ZXZ": np.array([0.7]), "g_ZZ": np.array([0.5]), "g_X": np.array([1.2])},
        qp.ObservableCost(qp.X(0) * qp.X(1) + qp.Z(2) * qp.Z(3)),
        lambda p, x: p["g_ZXZ"][0] * zxz - p["g_ZZ"][0] * zz - p["g_X"][0] * xs,
        (on(n, "X0 X1") + on(n, "Z2 Z3"),),
    )


def _phase_sensor() -> Case:
    n, paulis = 6, "XYZ"
    coupling = [on(n, f"{p}{s} {q}{i}") for s in (4, 5) for i in (0, 1) for p in paulis for q in paulis]
    field = [on(n, f"{p}{s}") for s in (4, 5) for p in paulis]
    sensor = [on(n, f"{p}4 {q}5") for p in paulis for q in paulis]
    ring = range(4)
    drive = [
        sum(on(n, f"Z{i} X{(i + 1) % 4} Z{(i + 2) % 4}") for i in ring),
        -sum(on(n, f"Z{i} Z{(i + 1) % 4}") for i in ring),
        -sum(on(n, f"X{i}") for i in ring),
    ]
    up, down = (np.eye(2**n) + on(n, "Z4")) / 2, (np.eye(2**n) - on(n, "Z4")) / 2
    up5, down5 = (np.eye(2**n) + on(n, "Z5")) / 2, (np.eye(2**n) - on(n, "Z5")) / 2
    params = _random(5, coupling=36, field=6, sensor=9)
    return Case(
        "phase sensor batch",
        phase_sensor(4),
        {"coupling": 0.3 * params["coupling"], "field": params["field"], "sensor": 0.5 * params["sensor"]},
        phase_sensor_cost(4),
        lambda p, x: (
            sum_over(p["coupling"], coupling)
            + sum_over(p["field"], field)
            + sum_over(p["sensor"], sensor)
            + sum_over(x, drive)
        ),
        (up @ up5, up @ down5, down @ up5),
        loss=square,
        inputs=np.array([[1.0, 0.5, 2.5], [0.6, 0.8, 2.6], [2.2, 0.4, 1.4]]),
        target=np.eye(3),
        real=False,
    )


def _input_sites() -> Case:
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4)]
    matrix = tfim_matrix(5, edges)
    return Case(
        "input sites, batch",
        qp.TransverseFieldIsing(5, edges, input_sites=[3, 0]),
        _random(7, J=5, h=5) | {"g": np.array([1.0, 0.8, 1.2, 0.9, 1.1])},
        qp.ExpectationCost([qp.Z(1), qp.X(2)]),
        lambda p, x: matrix(p, x) - x[0] * on(5, "Z3") - x[1] * on(5, "Z0"),
        (on(5, "Z1"), on(5, "X2")),
        loss=square,
        inputs=np.array([[0.4, -0.8], [-1.0, 0.3], [0.7, 0.7], [0.1, -0.2]]),
        target=np.array([[0.5, 0.1], [-0.5, 0.2], [0.9, 0.3], [0.0, 1.0]]),
    )


def _input_edges() -> Case:
    edges, ties = [(0, 1), (1, 2)], [(0, 0), (1, 0), (1, 2), (2, 1)]
    matrix = tfim_matrix(3, edges)
    return Case(
        "input edges, batch",
        qp.TransverseFieldIsing(3, edges, input_edges=ties),
        _random(11, J=2, h=3, W=4) | {"g": np.array([1.0, 0.8, 1.2])},
        qp.ExpectationCost([qp.Z(0), qp.Z(2)], qp.cross_entropy),
        lambda p, x: matrix(p, x) - sum_over(p["W"], [x[m] * on(3, f"Z{j}") for m, j in ties]),
        (on(3, "Z0"), on(3, "Z2")),
        loss=softmax_loss,
        inputs=np.array([[0.4, -0.8, 0.5], [-1.0, 0.3, 0.9]]),
        target=np.array([[1.0, 0.0], [0.0, 1.0]]),
    )


def _own_loss() -> Case:
    edges = [(0, 1), (1, 2)]
    return Case(
        "a loss of one's own",
        qp.TransverseFieldIsing(3, edges),
        {"J": np.array([0.8, -0.6]), "h": np.array([0.5, 0.3, -0.4]), "g": np.array([0.7, 0.9, 1.0])},
        qp.ExpectationCost([qp.Z(0), qp.Z(1) * qp.Z(2)], product_loss),
        tfim_matrix(3, edges),
        (on(3, "Z0"), on(3, "Z1 Z2")),
        loss=product_loss,
        target=0.4,
    )


def _squared_error() -> Case:
    edges = [(0, 1)]
    return Case(
        "squared error",
        qp.TransverseFieldIsing(2, edges),
        {"J": np.array([0.8]), "h": np.array([0.5, 0.3]), "g": np.array([0.7, 0.9])},
        qp.ExpectationCost([qp.Z(0), qp.Z(1)], qp.squared_error),
        tfim_matrix(2, edges),
        (on(2, "Z0"), on(2, "Z1")),
        loss=square,
        target=np.array([-0.5, 0.9]),
    )


SPIN_CASES = [
    make()
    for make in (
        _single_spin,
        _pair,
        _chain,
        _all_to_all,
        _heisenberg,
        _xxz,
        _one_y,
        _cost_with_y,
        _cluster,
        _phase_sensor,
        _input_sites,
        _input_edges,
        _own_loss,
        _squared_error,
    )
]
