"""Networks that are quadratic in fermions, and the open chain by a singular value decomposition."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import qeqprop as qp
from qeqprop.quantum import cluster_ising

from .oracle import Case, Params, difference_quotient, on
from .spin_cases import square, tfim_matrix


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


FREE_CASES = [make() for make in (_free_chain, _free_ring, _free_cluster)]


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
