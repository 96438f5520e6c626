"""Hermitian matrices of spin and operator systems in one form, for the levels in the middle of a spectrum.

Products act on real vectors. A complex matrix acts on (re, im) as [[re, -im], [im, re]] and then has every level twice,
with psi and i psi: the *doublet* of the level. Dense matrices and amplitudes are complex there, and have it once.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.sparse as sp

from ..core.nudge import WeightedObservables
from ..core.system import Params
from .batch_dense import matrices
from .batch_plan import plan_of
from .operators import OperatorSystem
from .spins import AbstractSpinSystem, SpinHamiltonian
from .strings import complex_form, real_form, string_table
from .threads import default_threads
from .vectors import Float1D

if TYPE_CHECKING:
    from .kernels import PauliKernel

DENSE_DIM = 1024
"""Dimension up to which matrices are formed."""


class EigenKernel(Protocol):
    """A `SymmetricOperator` of dimension `dim` that knows the Hermitian matrix of dimension `levels` behind it.

    `scale` is the largest coupling: gaps vanish against it. `realified`: the matrix acts as a complex one.
    """

    dim: int
    levels: int
    norm_bound: float
    scale: float
    realified: bool

    @property
    def dense(self) -> np.ndarray: ...

    def apply_lanczos(self, x: Float1D, previous: Float1D, beta: float, out: Float1D) -> tuple[float, float]: ...

    def product(self, amplitudes: np.ndarray) -> np.ndarray: ...

    def to_real(self, amplitudes: np.ndarray) -> np.ndarray: ...

    def to_amplitudes(self, vector: np.ndarray) -> np.ndarray: ...

    def doublet(self, vector: Float1D) -> list[Float1D]: ...


class MatrixKernel:
    """A sparse Hermitian matrix; see `EigenKernel`."""

    def __init__(self, matrix: sp.csr_array, realified: bool = False):
        self.hermitian = matrix
        self.realified = realified or np.iscomplexobj(matrix.data)
        self.matrix = matrix
        if self.realified:
            re, im = matrix.real, matrix.imag
            self.matrix = sp.csr_array(sp.block_array([[re, -im], [im, re]]))
        self.dim, self.levels = self.matrix.shape[0], matrix.shape[0]
        self.norm_bound = float(abs(matrix).sum(axis=1).max())
        self.scale = float(abs(matrix).max()) if matrix.nnz else 0.0

    def apply_lanczos(self, x: np.ndarray, previous: np.ndarray, beta: float, out: np.ndarray) -> tuple[float, float]:
        """out = H x - beta * previous; returns <x, out> and <out, out>. `previous` may be `out` or `x`."""
        product = self.matrix @ x
        out[:] = product - beta * previous if beta else product
        return float(x @ out), float(out @ out)

    @property
    def dense(self) -> np.ndarray:
        """The Hermitian matrix itself."""
        return self.hermitian.toarray()

    def product(self, amplitudes: np.ndarray) -> np.ndarray:
        """H psi of amplitudes."""
        return self.hermitian @ amplitudes

    def to_real(self, amplitudes: np.ndarray) -> np.ndarray:
        """Amplitudes as the vectors that `apply_lanczos` acts on."""
        if self.realified:
            return np.concatenate([amplitudes.real, amplitudes.imag])
        return np.array(amplitudes.real)

    def to_amplitudes(self, vector: np.ndarray) -> np.ndarray:
        """The inverse of `to_real`."""
        return vector[: self.levels] + 1j * vector[self.levels :] if self.realified else vector

    def doublet(self, vector: np.ndarray) -> list[np.ndarray]:
        """psi, and i psi where the matrix is complex."""
        return doublet(vector, self.realified)


class SpinKernel:
    """A spin Hamiltonian, matrix-free; see `EigenKernel`."""

    def __init__(self, h: SpinHamiltonian, threads: int | None = None):
        self.h, self.realified = h, h.realified
        self.threads = default_threads(h.n_bits) if threads is None else threads
        self.dim, self.levels = 1 << h.n_bits, 1 << h.n_sites
        self.norm_bound = float(np.abs(h.coefficients).sum())
        self.scale = float(np.abs(h.coefficients).max(initial=0.0))

    @functools.cached_property
    def _compiled(self) -> "PauliKernel":
        from .kernels import PauliKernel

        return PauliKernel(self.h.n_bits, self.h.x, self.h.z, self.h.coefficients, threads=self.threads)

    def apply_lanczos(self, x: np.ndarray, previous: np.ndarray, beta: float, out: np.ndarray) -> tuple[float, float]:
        """out = H x - beta * previous; returns <x, out> and <out, out>. `previous` may be `out` or `x`."""
        return self._compiled.apply_lanczos(x, previous, beta, out)

    @functools.cached_property
    def dense(self) -> np.ndarray:
        """The Hermitian matrix, up to 13 spins."""
        h = self.h
        matrix = matrices(plan_of(h.n_bits, h.x, h.z), h.coefficients[None])[0]
        n = self.levels
        return matrix[:n, :n] + 1j * matrix[n:, :n] if self.realified else matrix

    def product(self, amplitudes: np.ndarray) -> np.ndarray:
        """H psi of amplitudes."""
        if self.levels <= DENSE_DIM:
            return self.dense @ amplitudes
        return self.to_amplitudes(self._compiled.apply(self.to_real(amplitudes), np.empty(self.dim)))

    def to_real(self, amplitudes: np.ndarray) -> np.ndarray:
        """Amplitudes as the vectors that `apply_lanczos` acts on."""
        return np.array(real_form(amplitudes, self.h.n_bits))

    def to_amplitudes(self, vector: np.ndarray) -> np.ndarray:
        """The inverse of `to_real`."""
        return complex_form(vector, self.h.n_sites)

    def doublet(self, vector: np.ndarray) -> list[np.ndarray]:
        """psi, and i psi where the Hamiltonian is complex."""
        return doublet(vector, self.realified)


class Lifted:
    """H + sum_i (norm_bound - E_i) |v_i><v_i|: the levels found so far, lifted to the top of the spectrum."""

    def __init__(self, kernel: EigenKernel, pairs: Sequence[tuple[float, Float1D]]):
        self.kernel, self.dim, self.norm_bound = kernel, kernel.dim, kernel.norm_bound
        self.threads = int(getattr(kernel, "threads", 1))
        self.lifts = [(kernel.norm_bound - energy, v) for energy, psi in pairs for v in kernel.doublet(psi)]

    def apply_lanczos(self, x: Float1D, previous: Float1D, beta: float, out: Float1D) -> tuple[float, float]:
        """out = H x - beta * previous; returns <x, out> and <out, out>. `previous` may be `out` or `x`."""
        dots = self.kernel.apply_lanczos(x, previous, beta, out)
        if not self.lifts:
            return dots
        for lift, v in self.lifts:
            out += (lift * float(v @ x)) * v
        return float(x @ out), float(out @ out)


def doublet(vector: Float1D, realified: bool) -> list[Float1D]:
    """Orthonormal real vectors of one level: psi, and i psi where the matrix acts as a complex one."""
    if not realified:
        return [vector]
    half = len(vector) // 2
    return [vector, np.concatenate([-vector[half:], vector[:half]])]


def kernel_of(
    system: AbstractSpinSystem | OperatorSystem, params: Params, threads: int | None, *, realified: bool = False
) -> EigenKernel:
    """H(theta) with inputs and nudges; `realified` has it act on complex amplitudes even where it is real."""
    if isinstance(system, OperatorSystem):
        return MatrixKernel(system.matrix(params), realified)
    h = system.hamiltonian(params)  # a string of fewer bits acts on realified vectors as it stands
    return SpinKernel(h._replace(n_bits=max(h.n_bits, h.n_sites + realified)), threads)


def term_kernel(
    system: AbstractSpinSystem | OperatorSystem, term: WeightedObservables, threads: int | None, *, realified: bool
) -> EigenKernel:
    """The nudging term as a matrix."""
    if isinstance(system, OperatorSystem):
        total = sp.csr_array((system.dim, system.dim), dtype=np.float64)
        for weight, operator in zip(term.weights, term.observables, strict=True):
            total = total + weight * operator.matrix
        return MatrixKernel(sp.csr_array(total), realified)
    table = string_table(term.observables, system.n_sites)
    coefficients = np.asarray(table.coefficients.T @ term.weights)
    n_bits = max(table.n_bits, system.n_sites + realified)
    return SpinKernel(SpinHamiltonian(system.n_sites, n_bits, table.x, table.z, coefficients), threads)
