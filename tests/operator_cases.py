"""Systems of one's own terms: QuTiP operators, a driven cavity, plain matrices."""

from typing import Any

import numpy as np
import qutip

import qeqprop as qp

from .oracle import LETTERS, Case, on, sum_over
from .spin_cases import square


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


OPERATOR_CASES = [make() for make in (_qutip_spins, _rabi, _driven_operators)]
