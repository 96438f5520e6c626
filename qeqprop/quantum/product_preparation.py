"""Product Hamiltonians, sums of one-site terms, and their ground states: where an adiabatic preparation begins."""

from typing import Any

import numpy as np

from .pauli import PauliSum
from .strings import StringTable

SMALLEST_FIELD = 1e-9
"""Relative to the largest coefficient: below it a site counts as free to point anywhere."""


def check_product(start: Any, n_sites: int) -> PauliSum:
    """`start` as a sum of one-site terms within the system."""
    if not isinstance(start, PauliSum):
        raise TypeError(
            f"Argument `start` must be a Pauli sum such as -qp.X(0) - qp.X(1), but is {type(start).__name__}."
        )
    if not start.is_hermitian:
        raise ValueError(f"Argument `start` must be Hermitian, but is {start}.")
    if start.max_site >= n_sites:
        raise ValueError(f"Argument `start` must act on sites 0 to {n_sites - 1}, but acts on site {start.max_site}.")
    if start.weight > 1:
        raise ValueError(f"Argument `start` must be a sum of one-site terms, but is {start}.")
    return start


def one_site(table: StringTable) -> np.ndarray:
    """Which strings of a realified table act on one site."""
    return np.bitwise_count((table.x | table.z) & _sites(table)) == 1


def default_product(table: StringTable, coefficients: np.ndarray, n_sites: int) -> np.ndarray | None:
    """The coefficients of the fields among those of a Hamiltonian; None where no site has any field."""
    fields = np.where(one_site(table), coefficients, 0.0)
    strengths = np.linalg.norm(field_vectors(table, fields, n_sites), axis=1)
    return fields if np.any(strengths > SMALLEST_FIELD * np.abs(coefficients).max(initial=0.0)) else None


def field_vectors(table: StringTable, coefficients: np.ndarray, n_sites: int) -> np.ndarray:
    """b of the one-site terms sum_i b_i . (X_i, Y_i, Z_i), shape (n_sites, 3)."""
    single = np.flatnonzero(one_site(table))
    x, z = table.x[single] & _sites(table), table.z[single] & _sites(table)
    site = (table.n_bits - 2) - np.bitwise_count((x | z) - 1).astype(int)  # site 0 is the bit below the realified one
    axis = np.where(z == 0, 0, np.where(x == 0, 2, 1))
    vectors = np.zeros((table.n_bits - 1, 3))
    vectors[site, axis] = coefficients[single]
    return vectors[:n_sites]


def product_ground_state(fields: np.ndarray, scale: float) -> np.ndarray:
    """Amplitudes of the ground state of sum_i b_i . sigma_i: every spin points against its field.

    Args:
        fields: b, shape (n_sites, 3).
        scale: the largest coefficient, against which a field counts as zero.

    Raises:
        ValueError: a site without field: the ground state is degenerate.
    """
    strengths = np.linalg.norm(fields, axis=1)
    if (free := np.flatnonzero(strengths <= SMALLEST_FIELD * scale)).size:
        raise ValueError(
            f"Sites {free.tolist()} have no field in the Hamiltonian that the preparation starts from: its ground state "
            "is degenerate. Give `start`, a field on every site, e.g. start=-sum(qp.X(i) for i in range(n))."
        )
    state = np.ones(1, dtype=np.complex128)
    for x, y, z in -fields / strengths[:, None]:
        polar, azimuth = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
        state = np.kron(state, [np.cos(polar / 2), np.exp(1j * azimuth) * np.sin(polar / 2)])
    return state


def _sites(table: StringTable) -> int:
    return (1 << (table.n_bits - 1)) - 1
