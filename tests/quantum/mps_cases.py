"""The solver, parameters, operators and states for the tests of matrix product states."""

import numpy as np

import qeqprop as qp
from qeqprop.quantum import MatrixProductGroundState, MatrixProductState

SOLVER = MatrixProductGroundState()


def random_params(network, *, seed: int, h: float, g: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = network.n_sites
    J = rng.uniform(0.8, 1.2, len(network.edges))
    return {"J": J, "h": h * rng.normal(size=n), "g": g * rng.uniform(0.8, 1.2, n)}


def random_operators(n: int, count: int, *, real: bool, seed: int) -> list[qp.PauliSum]:
    """Strings of any letters and any length at any distance."""
    rng = np.random.default_rng(seed)
    made = []
    while len(made) < count:
        x, z = (int(mask) for mask in rng.integers(1 << n, size=2))
        if x | z and not (real and (x & z).bit_count() % 2):
            made.append(qp.PauliSum([(x, z, 1.0)]))
    return made


def random_state(n: int, bond: int, order: list[int], *, seed: int) -> MatrixProductState:
    rng = np.random.default_rng(seed)
    bonds = [1, *([bond] * (n - 1)), 1]
    shapes = [(bonds[k], 2, bonds[k + 1]) for k in range(n)]
    return MatrixProductState.canonical([rng.normal(size=s) + 1j * rng.normal(size=s) for s in shapes], order)
