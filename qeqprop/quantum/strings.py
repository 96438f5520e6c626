"""Many Pauli sums as one table of real strings, and the linear maps between coefficients, strings and forces.

A string acts on a basis state s (site 0 is the most significant bit; bit 0 is spin up) as

    P |s> = (-1)^popcount(s & z) |s ^ x> ,

which is a real symmetric matrix when popcount(x & z) (its number of Y's) is even. An odd number of Y's makes i*P
Hermitian: such a string is *realified*. With psi = u + i v stored as one real vector (u, v) of n + 1 bits, the factor i
is the real rotation X Z on the extra, top bit. So complex Hamiltonians cost two real ones and need no other code.
"""

import functools
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from .pauli import PauliSum


class StringTable(NamedTuple):
    """The distinct strings of some operators.

    Attributes:
        n_bits: n_sites, or n_sites + 1 where a string is realified.
        x, z: int64 masks, shape (n_strings,).
        coefficients: sparse (n_operators, n_strings): operator k = sum_s coefficients[k, s] * string s.
    """

    n_bits: int
    x: np.ndarray
    z: np.ndarray
    coefficients: sp.csr_array

    @property
    def n_strings(self) -> int:
        return len(self.x)


@functools.lru_cache(maxsize=256)
def string_table(operators: tuple[PauliSum, ...], n_sites: int, realified: bool | None = None) -> StringTable:
    """The table of some Hermitian operators.

    Args:
        operators: Hermitian Pauli sums.
        n_sites: number of sites of the system.
        realified: use n_sites + 1 bits even where every string is real; None does so where it is needed.

    Raises:
        ValueError: an operator acts beyond the last site.
    """
    x_parts, z_parts, values, rows = [], [], [], []
    for row, operator in enumerate(operators):
        x, z, c = operator.kernel_strings(n_sites)
        x_parts.append(x)
        z_parts.append(z)
        values.append(np.asarray(c, dtype=np.complex128))
        rows.append(np.full(len(x), row))
    x_all, z_all = np.concatenate([[], *x_parts]).astype(np.int64), np.concatenate([[], *z_parts]).astype(np.int64)
    coefficients, row_of = np.concatenate([[], *values]), np.concatenate([[], *rows]).astype(np.int64)
    odd = (np.bitwise_count(x_all & z_all) % 2).astype(bool)
    if realified is None:
        realified = bool(odd.any())
    top = np.int64(1) << n_sites
    x_all, z_all = np.where(odd, x_all | top, x_all), np.where(odd, z_all | top, z_all)
    real = np.where(odd, coefficients.imag, coefficients.real)
    keys, column = np.unique(np.stack([x_all, z_all], axis=1).reshape(-1, 2), axis=0, return_inverse=True)
    matrix = sp.csr_array((real, (row_of, column.reshape(-1))), shape=(len(operators), len(keys)))
    return StringTable(n_sites + int(realified), keys[:, 0].copy(), keys[:, 1].copy(), matrix)


def real_form(amplitudes: np.ndarray, n_bits: int) -> np.ndarray:
    """Amplitudes (..., 2^n) as real vectors of n_bits: themselves, or (re, im) side by side on one extra bit."""
    if amplitudes.shape[-1] == 1 << n_bits:
        return np.ascontiguousarray(amplitudes.real)
    return np.concatenate([amplitudes.real, amplitudes.imag], axis=-1)


def complex_form(vectors: np.ndarray, n_sites: int) -> np.ndarray:
    """The inverse of `real_form`."""
    dim = 1 << n_sites
    return vectors if vectors.shape[-1] == dim else vectors[..., :dim] + 1j * vectors[..., dim:]
