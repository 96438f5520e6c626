"""Spins and oscillators that are read by shots, and the test that standard errors are true."""

from typing import Any

import numpy as np

import qeqprop as qp
from qeqprop.core.nudge import WeightedObservables

EXACT = qp.ExactDiagonalization()
NET = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
PARAMS = {"J": np.array([1.0, 0.7]), "h": np.array([0.3, -0.2, 0.5]), "g": np.array([0.9, 1.1, 0.8])}
COST = qp.ObservableCost(qp.Z(2))

SPRINGS = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], hbar=0.7, trainable=("k", "l", "kappa", "f", "m"))
SPRING_PARAMS = {
    "k": np.array([1.0, 1.5]),
    "l": np.array([0.3, -0.2]),
    "kappa": np.array([0.8, 0.5, 1.2]),
    "f": np.array([0.4, -0.1, 0.2]),
    "m": np.array([1.0, 0.7, 1.3]),
}


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def copies(count: int) -> qp.TransverseFieldIsing:
    """The same network many times: independent repetitions of a measurement in one call."""
    return NET.with_inputs(np.zeros((count, 1)))


def forces(system: Any, solver: Any, beta: float, key: int = 0) -> Any:
    """Forces at a nudge by COST; of copies with the batch axis first."""
    batch = () if system.batch_size is None else (system.batch_size,)
    term = WeightedObservables(COST.observables, np.ones((*batch, 1)))
    seed = np.random.SeedSequence([key, int(1e6 * abs(beta)), int(beta < 0)])
    return system.param_grad(PARAMS, solver.solve(system.nudged(term, beta), PARAMS, key=seed).state)


def assert_standard_normal(z: np.ndarray, effective: int | None = None) -> None:
    """Mean 0 and variance 1 within four standard deviations (`effective`: independent numbers among them)."""
    n = z.size if effective is None else effective
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs(z.std() - 1) < 0.02 + 4 / np.sqrt(2 * n)
