"""A ring with chords, its cost, and matrices of strings, for the tests of sampled thermal states."""

from typing import Any

import numpy as np

import qeqprop as qp
from qeqprop.quantum.spins import SpinHamiltonian

COST = qp.ObservableCost(qp.Z(0) * qp.Z(2) + 0.5 * qp.Z(1))


def network(n: int, seed: int = 0) -> tuple[Any, ...]:
    """A ring with chords, every coupling and field different: no symmetry makes a gradient vanish."""
    rng = np.random.default_rng(seed)
    edges = [(i, (i + 1) % n) for i in range(n)] + [(i, i + n // 2) for i in range(n // 2)]
    params = {
        "J": rng.uniform(0.5, 1.5, len(edges)) * rng.choice([-1, 1], len(edges)),
        "h": rng.uniform(-0.5, 0.5, n),
        "g": rng.uniform(0.5, 1.5, n),
    }
    return qp.TransverseFieldIsing(n, edges), params


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([tree[name] for name in sorted(tree)])


def matrix_of(h: SpinHamiltonian) -> np.ndarray:
    """The matrix of a table of strings, from their definition."""
    index = np.arange(1 << h.n_bits)
    dense = np.zeros((index.size, index.size))
    for x, z, value in zip(h.x, h.z, h.coefficients, strict=True):
        dense[index ^ x, index] += value * (1 - 2 * (np.bitwise_count(index & z) % 2).astype(float))
    return dense
