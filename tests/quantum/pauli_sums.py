"""Pauli sums for the tests: random ones, and their matrices by Kronecker products."""

import functools

import numpy as np
from hypothesis import strategies as st

from qeqprop.quantum.pauli import PauliSum

MATRICES = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
N_SITES = 3


def dense(operator: PauliSum, n_sites: int = N_SITES) -> np.ndarray:
    """The matrix from Kronecker products of the letters, site 0 first."""
    matrix = np.zeros((2**n_sites, 2**n_sites), dtype=complex)
    for x, z, c in operator:
        letters = ("IXZY"[(x >> i & 1) + 2 * (z >> i & 1)] for i in range(n_sites))
        matrix += c * functools.reduce(np.kron, (MATRICES[letter] for letter in letters))
    return matrix


def random_sum(
    rng: np.random.Generator, n_sites: int = N_SITES, n_strings: int = 20, hermitian: bool = False
) -> PauliSum:
    masks = rng.integers(0, 2**n_sites, size=(n_strings, 2)).tolist()
    coefficients = rng.normal(size=n_strings) + (0 if hermitian else 1j * rng.normal(size=n_strings))
    return PauliSum((x, z, c) for (x, z), c in zip(masks, coefficients.tolist(), strict=True))


# Multiples of 1/8 make products and sums exact, so that algebraic identities hold with `==`.
eighths = st.integers(-40, 40).map(lambda k: k / 8)
masks = st.integers(0, 2**N_SITES - 1)
sums = st.lists(st.tuples(masks, masks, st.builds(complex, eighths, eighths)), max_size=6).map(PauliSum)
any_coefficients = st.complex_numbers(max_magnitude=1e100, allow_nan=False, allow_infinity=False)
wild_sums = st.lists(st.tuples(masks, masks, any_coefficients), max_size=6).map(PauliSum)
