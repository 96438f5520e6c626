"""Cases with exact answers: every system is written twice, in qeqprop's words and as plain Kronecker products.

The oracle of a case uses nothing of the package: a dense matrix, `numpy.linalg.eigh`, and the sum over states

    d<C>/dtheta_k = 2 Re sum_{n>0} <0|dH/dtheta_k|n><n|C|0> / (E_0 - E_n) ,    C = sum_j (dL/d<O_j>) O_j .

A new network is tested by adding one entry to `cases()`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import qutip

import qeqprop as qp
from qeqprop.quantum import cluster_ising, heisenberg, phase_sensor, phase_sensor_cost, xxz

Params = dict[str, np.ndarray]

LETTERS = {"X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}


def on(n_sites: int, label: str) -> np.ndarray:
    """The matrix of a label such as "X0 Z2"; site 0 is the leftmost factor, spin up the first state."""
    letters = {int(part[1:]): LETTERS[part[0]] for part in label.split()}
    return functools.reduce(np.kron, [letters.get(site, np.eye(2)) for site in range(n_sites)])


def sum_over(values: Any, matrices: list[np.ndarray]) -> Any:
    """sum_k values[k] * matrices[k]."""
    return sum(v * m for v, m in zip(values, matrices, strict=True))


@dataclass(frozen=True)
class Solution:
    """What the oracle knows: mean loss, mean gradient, and of every sample energy and gap."""

    loss: float
    grad: Params
    energies: np.ndarray
    gaps: np.ndarray


@dataclass(frozen=True)
class Case:
    """A problem in qeqprop's words (system, params, nudge, target, inputs) and in matrices.

    `hamiltonian(params, inputs)` is linear in the parameters; `observables` and `loss(expectations, target)` define the
    cost. `real`: H and C are real matrices, so that complex nudges can be followed.
    """

    name: str
    system: Any
    params: Params
    nudge: Any
    hamiltonian: Callable[[Mapping[str, np.ndarray], Any], np.ndarray]
    observables: tuple[np.ndarray, ...]
    loss: Callable[[np.ndarray, Any], float] = lambda o, y: o[0]
    target: Any = None
    inputs: Any = None
    real: bool = True
    least: float = 0.05

    @property
    def problem(self) -> tuple[Any, ...]:
        """The positional arguments of `ep_gradient`."""
        return self.system, self.params, self.nudge, self.target

    @functools.cached_property
    def exact(self) -> Solution:
        """The oracle's answer."""
        samples = [(None, self.target)] if self.inputs is None else self._samples()
        single = [self._solve(x, y) for x, y in samples]
        return Solution(
            loss=float(np.mean([loss for loss, _, _, _ in single])),
            grad={name: np.mean([grad[name] for _, grad, _, _ in single], axis=0) for name in self.params},
            energies=np.array([energy for _, _, energy, _ in single]),
            gaps=np.array([gap for _, _, _, gap in single]),
        )

    def _samples(self) -> list[tuple[Any, Any]]:
        if np.ndim(self.inputs) == 1:
            return [(self.inputs, self.target)]
        targets = [None] * len(self.inputs) if self.target is None else self.target
        return list(zip(self.inputs, targets, strict=True))

    def _solve(self, x: Any, y: Any) -> tuple[float, Params, float, float]:
        zero = {name: np.zeros_like(value) for name, value in self.params.items()}
        offset = self.hamiltonian(zero, x)
        levels, states = np.linalg.eigh(self.hamiltonian(self.params, x))
        ground = states[:, 0]
        expectations = np.array([np.vdot(ground, o @ ground).real for o in self.observables])
        signal = difference_quotient(lambda o: self.loss(o, y), expectations)
        kicked = states[:, 1:].conj().T @ (sum_over(signal, list(self.observables)) @ ground)
        response = states[:, 1:] @ (kicked / (levels[0] - levels[1:]))
        grad = {}
        for name, value in self.params.items():
            grad[name] = np.zeros_like(value)
            for index in np.ndindex(value.shape):
                unit = {n: v.copy() for n, v in zero.items()}
                unit[name][index] = 1.0
                grad[name][index] = 2 * np.vdot(ground, (self.hamiltonian(unit, x) - offset) @ response).real
        return float(self.loss(expectations, y)), grad, levels[0], levels[1] - levels[0]

    def beta(self, ratio: float, free_state: Any) -> float:
        """The nudge at which beta*||C||/gap of the worst sample is `ratio`."""
        norm = self.nudge.term(free_state, self.target).norm_bound()
        return float(ratio / np.max(norm / self.exact.gaps.reshape(np.shape(norm))))


def difference_quotient(fn: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Derivatives by a fourth-order central difference."""
    out = np.zeros_like(at)
    for k in range(at.size):
        unit = np.eye(at.size)[k] * step
        out[k] = (8 * (fn(at + unit) - fn(at - unit)) - (fn(at + 2 * unit) - fn(at - 2 * unit))) / (12 * step)
    return out


def norm(tree: Mapping[str, Any]) -> float:
    """Euclidean norm of a dict of arrays."""
    return float(np.sqrt(sum(np.sum(np.abs(value) ** 2) for value in tree.values())))


def deviation(tree: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """||tree - reference|| / ||reference|| over the entries that `tree` has (NaN: not computed)."""
    assert set(tree) == set(reference), f"names {list(tree)} instead of {list(reference)}"
    keep = {name: ~np.isnan(value) for name, value in tree.items()}
    gaps = {name: np.asarray(tree[name])[keep[name]] - np.asarray(reference[name])[keep[name]] for name in tree}
    return norm(gaps) / norm({name: np.asarray(reference[name])[keep[name]] for name in tree})


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


def _qutip_spins() -> Case:
    def op(label: str) -> Any:
        return qutip.Qobj(on(3, label), dims=[[2] * 3] * 2)

    names = {"bond": ["Z0 Z1", "Y1 Y2"], "field": ["X0", "Y1", "Z2", "X1"]}
    matrices = {name: [on(3, label) for label in labels] for name, labels in names.items()}
    return Case(
        "QuTiP spins",
        qp.OperatorSystem({name: [op(label) for label in labels] for name, labels in names.items()}, fixed=op("Z0")),
        {"bond": np.array([-0.8, 0.6]), "field": np.array([0.9, 0.5, -0.7, 0.4])},
        qp.ObservableCost(qp.MatrixOperator(op("Z1") + 0.5 * op("X2"))),
        lambda p, x: sum_over(p["bond"], matrices["bond"]) + sum_over(p["field"], matrices["field"]) + on(3, "Z0"),
        (on(3, "Z1") + 0.5 * on(3, "X2"),),
        real=False,
    )


def _rabi() -> Case:
    levels = 8
    a = np.diag(np.sqrt(np.arange(1, levels)), 1)
    terms = {
        "omega": np.kron(a.T @ a, np.eye(2)),
        "qubit": np.kron(np.eye(levels), LETTERS["Z"]) / 2,
        "coupling": np.kron(a, [[0, 1], [0, 0]]) + np.kron(a.T, [[0, 0], [1, 0]]),
        "drive": np.kron(1j * (a - a.T), np.eye(2)),
    }
    cavity, atom = qutip.destroy(levels), qutip.sigmap()
    raising = qutip.tensor(cavity, atom)
    operators = {
        "omega": [qutip.tensor(qutip.num(levels), qutip.qeye(2))],
        "qubit": [qutip.tensor(qutip.qeye(levels), qutip.sigmaz()) / 2],
        "coupling": [raising + raising.dag()],
        "drive": [qutip.tensor(1j * (cavity - cavity.dag()), qutip.qeye(2))],
    }
    number = np.kron(np.diag(np.arange(levels)), np.eye(2))
    return Case(
        "driven Jaynes-Cummings",
        qp.OperatorSystem(operators),
        {"omega": np.array([1.0]), "qubit": np.array([0.9]), "coupling": np.array([0.2]), "drive": np.array([0.15])},
        qp.ObservableCost(qp.MatrixOperator(qutip.tensor(qutip.num(levels), qutip.qeye(2)))),
        lambda p, x: sum(p[name][0] * matrix for name, matrix in terms.items()),
        (number,),
        real=False,
    )


def _driven_operators() -> Case:
    matrices = [on(2, label) for label in ("X0", "X1", "Z0 Z1")]
    return Case(
        "operators, batch of inputs",
        qp.OperatorSystem({"t": [-m for m in matrices]}, inputs=[-on(2, "Z0"), -on(2, "Z1")]),
        {"t": np.array([1.0, 0.8, 0.5])},
        qp.ExpectationCost([qp.MatrixOperator(on(2, "Z1"))]),
        lambda p, x: -sum_over(p["t"], matrices) - x[0] * on(2, "Z0") - x[1] * on(2, "Z1"),
        (on(2, "Z1"),),
        loss=square,
        inputs=np.array([[0.5, -0.3], [-0.2, 0.6], [0.9, 0.4]]),
        target=np.array([[0.5], [-0.5], [0.0]]),
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


def _free_chain() -> Case:
    edges = [(3, 0), (0, 5), (5, 1), (1, 4), (4, 2)]
    return Case(
        "open chain without fields",
        qp.TransverseFieldIsing(6, edges),
        {"J": np.array([0.9, -0.6, 0.7, 0.5, -0.8]), "h": np.zeros(6), "g": np.array([1.0, -0.9, 1.2, 0.8, 1.1, 1.3])},
        qp.ObservableCost(qp.X(5) - 0.7 * qp.Z(1) * qp.Z(4)),
        tfim_matrix(6, edges),
        (on(6, "X5") - 0.7 * on(6, "Z1 Z4"),),
    )


def _free_ring() -> Case:
    edges = [(0, 2), (2, 4), (4, 1), (1, 3), (3, 0)]
    return Case(
        "ring without fields",
        qp.TransverseFieldIsing(5, edges),
        {"J": np.array([0.8, -0.5, 0.6, 0.9, 0.4]), "h": np.zeros(5), "g": np.array([1.0, 0.9, -1.2, 0.8, 1.1])},
        qp.ExpectationCost([qp.X(0), qp.Z(3) * qp.Z(0)]),
        tfim_matrix(5, edges),
        (on(5, "X0"), on(5, "Z3 Z0")),
        loss=square,
        target=np.array([0.2, 0.9]),
    )


def _free_cluster() -> Case:
    n = 6
    zxz = sum(on(n, f"Z{i} X{(i + 1) % n} Z{(i + 2) % n}") for i in range(n))
    zz, xs = sum(on(n, f"Z{i} Z{(i + 1) % n}") for i in range(n)), sum(on(n, f"X{i}") for i in range(n))
    return Case(
        "cluster-Ising ring without defects",
        cluster_ising(n),
        {"g_ZXZ": np.array([0.7]), "g_ZZ": np.array([0.5]), "g_X": np.array([1.2])},
        qp.ObservableCost(qp.X(0) + qp.Z(5) * qp.Z(0) - qp.Z(4) * qp.X(5) * qp.Z(0)),
        lambda p, x: p["g_ZXZ"][0] * zxz - p["g_ZZ"][0] * zz - p["g_X"][0] * xs,
        (on(n, "X0") + on(n, "Z5 Z0") - on(n, "Z4 X5 Z0"),),
    )


CASES = [
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
        _qutip_spins,
        _rabi,
        _driven_operators,
        _input_sites,
        _input_edges,
        _own_loss,
        _squared_error,
        _free_chain,
        _free_ring,
        _free_cluster,
    )
]
BY_NAME = {case.name: case for case in CASES}
REAL_CASES = [case for case in CASES if case.real]
FREE_CASES = [
    BY_NAME[name] for name in ("open chain without fields", "ring without fields", "cluster-Ising ring without defects")
]
"""The cases that are quadratic in fermions."""
BATCHED_CASES = [case for case in CASES if np.ndim(case.inputs) == 2]


def name_of(case: Case) -> str:
    """A readable test id."""
    return case.name.replace(" ", "_").replace(",", "")


@dataclass(frozen=True)
class FreeFermions:
    """The open chain -sum J ZZ - sum g X without longitudinal field, by a singular value decomposition.

    With M bidiagonal, M_ii = g_i and M_(i+1,i) = J_i, and M = U S V^T: E_0 = -sum S, gap = 2 min S, and Q = U V^T holds
    <X_i> = Q_ii and <Z_i Z_(i+1)> = Q_(i+1,i) (Lieb, Schultz & Mattis 1961; Pfeuty 1970).
    """

    J: np.ndarray
    g: np.ndarray

    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        u, s, vt = np.linalg.svd(np.diag(self.g) + np.diag(self.J, -1))
        return s, u @ vt

    @property
    def energy(self) -> float:
        return float(-np.sum(self._factors()[0]))

    @property
    def gap(self) -> float:
        return float(2 * np.min(self._factors()[0]))

    @property
    def x(self) -> np.ndarray:
        return np.diag(self._factors()[1])

    @property
    def zz(self) -> np.ndarray:
        return np.diag(self._factors()[1], -1)

    def gradient(self, observable: Callable[["FreeFermions"], float], step: float = 1e-4) -> Params:
        """d observable / d(J, g) by fourth-order finite differences."""
        flat, n = np.concatenate([self.J, self.g]), len(self.J)
        grad = difference_quotient(lambda p: observable(FreeFermions(p[:n], p[n:])), flat, step)
        return {"J": grad[:n], "g": grad[n:]}
