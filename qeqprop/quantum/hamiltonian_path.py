"""A straight line of Hamiltonians, H(s) = (1 - s) H_first + s H_last, as products with complex states in real form.

A state psi = u + i v is one real vector (u, v). A string without Y's (or with an even number of them) acts on u and v
alike: to the kernels of real vectors it is a string on one more bit that leaves this bit alone. So real and complex
Hamiltonians are one code, and the real inner product of two such vectors is the real part of the complex one.
"""

import copy
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from .kernel_tables import KernelTables
from .kernels import PauliKernel
from .simd import TILE_BITS
from .strings import StringTable


class Product(Protocol):
    """A Hermitian operator on real forms."""

    def apply_lanczos(self, x: np.ndarray, previous: np.ndarray, beta: float, out: np.ndarray) -> tuple[float, float]:
        """out = H x - beta previous; returns Re <x|out> and <out|out>. `previous` may be `out` or `x`."""
        ...


class HamiltonianPath(Protocol):
    """H(s) = H(0) + s * change."""

    size: int

    @property
    def change(self) -> Product:
        """H(1) - H(0)."""
        ...

    def at(self, s: float) -> Product:
        """H(s)."""
        ...

    def to_real(self, amplitudes: np.ndarray) -> np.ndarray:
        """Amplitudes as a vector of `size` reals."""
        ...

    def to_amplitudes(self, vector: np.ndarray) -> np.ndarray:
        """The inverse of `to_real`."""
        ...


def kernel_sites(n_sites: int) -> int:
    """Sites that the kernels see: their tiles of 2^5 reals need four, so idle spins are added behind the last site."""
    return max(n_sites, TILE_BITS - 1)


class SpinPath:
    """Both ends are sums over the same strings; the compiled tables are linear in the coefficients.

    Args:
        n_sites: number of spins.
        table: strings on `kernel_sites(n_sites)` sites, realified.
        first, last: one coefficient for every string.
    """

    def __init__(self, n_sites: int, table: StringTable, first: np.ndarray, last: np.ndarray):
        self.size = 1 << table.n_bits
        self._idle = 1 << (kernel_sites(n_sites) - n_sites)
        self._first = PauliKernel(table.n_bits, table.x, table.z, first)
        self.change = PauliKernel(table.n_bits, table.x, table.z, last - first)

    def at(self, s: float) -> PauliKernel:
        kernel = copy.copy(self._first)
        kernel.tables = _sum_of_tables(self._first.tables, self.change.tables, s)
        return kernel

    def to_real(self, amplitudes: np.ndarray) -> np.ndarray:
        vector = np.zeros((2, len(amplitudes), self._idle))
        vector[0, :, 0], vector[1, :, 0] = amplitudes.real, amplitudes.imag
        return vector.ravel()

    def to_amplitudes(self, vector: np.ndarray) -> np.ndarray:
        real, imaginary = vector.reshape(2, -1, self._idle)[..., 0]
        return real + 1j * imaginary


def _sum_of_tables(a: KernelTables, b: KernelTables, s: float) -> KernelTables:
    """The tables of A + s B. Only the list of single flips depends on which coefficients are zero."""
    masks = np.union1d(a.flip_masks, b.flip_masks)
    flips = np.zeros(masks.size)
    flips[np.searchsorted(masks, a.flip_masks)] += a.flip_amplitudes
    flips[np.searchsorted(masks, b.flip_masks)] += s * b.flip_amplitudes
    return a._replace(
        low=a.low + s * b.low,
        fields=a.fields + s * b.fields,
        stored=a.stored + s * b.stored,
        tile_flips=a.tile_flips + s * b.tile_flips,
        flip_masks=masks,
        flip_amplitudes=flips,
        coefficients=a.coefficients + s * b.coefficients,
    )


class MatrixPath:
    """Both ends are sparse matrices."""

    def __init__(self, first: sp.csr_array, last: sp.csr_array):
        self.size = 2 * first.shape[0]
        self._first, self._change = first, sp.csr_array(last - first)
        self.change = MatrixProduct(self._change)

    def at(self, s: float) -> "MatrixProduct":
        return MatrixProduct(sp.csr_array(self._first + s * self._change))

    def to_real(self, amplitudes: np.ndarray) -> np.ndarray:
        return np.concatenate([amplitudes.real, amplitudes.imag])

    def to_amplitudes(self, vector: np.ndarray) -> np.ndarray:
        return vector[: self.size // 2] + 1j * vector[self.size // 2 :]


class MatrixProduct:
    """A sparse Hermitian matrix on real forms."""

    def __init__(self, matrix: sp.csr_array):
        self.matrix = matrix

    def apply_lanczos(self, x: np.ndarray, previous: np.ndarray, beta: float, out: np.ndarray) -> tuple[float, float]:
        half = x.size // 2
        product = self.matrix @ (x[:half] + 1j * x[half:])
        out[:] = np.concatenate([product.real, product.imag]) - beta * previous
        return float(x @ out), float(out @ out)
