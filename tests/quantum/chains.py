"""Networks that many tests solve: open chains and square lattices with equal parameters, one qubit, and a cost."""

import numpy as np

import qeqprop as qp

Z0 = qp.ObservableCost(qp.Z(0))
QUBIT = qp.OperatorSystem({"a": [np.array([[0, 1], [1, 0]]), np.diag([1.0, -1.0])]})


def chain(n: int) -> qp.TransverseFieldIsing:
    """An open chain."""
    return qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])


def uniform(n: int, J: float = 1.0, h: float = 0.0, g: float = 1.0) -> dict[str, np.ndarray]:
    """Parameters of `chain(n)`."""
    return {"J": np.full(n - 1, J), "h": np.full(n, h), "g": np.full(n, g)}


def lattice(length: int, width: int) -> qp.TransverseFieldIsing:
    """A square lattice, numbered column by column."""
    along = [(i, i + width) for i in range((length - 1) * width)]
    across = [(i, i + 1) for i in range(length * width) if (i + 1) % width]
    return qp.TransverseFieldIsing(length * width, along + across)
