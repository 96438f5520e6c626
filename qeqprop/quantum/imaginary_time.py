r"""exp(-t H) of many vectors at once, and its derivative along a perturbation of H, by Chebyshev polynomials.

With the spectrum in [c - h, c + h] and H~ = (H - c)/h,

    exp(-t (H - c + h)) = sum_k a_k T_k(H~),      a_k = (2 - delta_k0) (-1)^k e^(-t h) I_k(t h),

the vectors T_k(H~) v obey T_(k+1) = 2 H~ T_k - T_(k-1), one fused product each, and no basis is kept. Differentiating the
recurrence gives the derivative of the sum for a perturbed H + beta C, exactly:

    dT_(k+1) = 2 H~ dT_k + (2/h) C T_k - dT_(k-1) .

About sqrt(2 t h ln(1/accuracy)) terms are needed, as many as Lanczos steps, but the coefficients do not depend on the
vector: small vectors are stacked, and their index is nothing but a few idle spins in the highest bits. |T_k| <= 1 and
|dT_k| <= k^2 |C| / h bound what the truncation leaves out.

Reference: H. Tal-Ezer and R. Kosloff, J. Chem. Phys. 81, 3967 (1984).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import ive

from .kernels import PauliKernel
from .simd import TILE_BITS
from .spins import SpinHamiltonian
from .vectors import Float1D, SymmetricOperator, Workspace, add, advance

STACK_BITS = 15
"""Stacks of small vectors have at most this many bits: the five to eight of them that are in work fit in the cache."""

MAX_TERMS = 6000
"""Above this number of terms the temperature is so low against the width of the spectrum that sampling is pointless."""

INTERVAL_STEPS = 300
INTERVAL_ACCURACY = 1e-3
"""Residual of the extreme Ritz values against the width, to which the ends of the spectrum are found."""


class Interval(NamedTuple):
    """Bounds of a spectrum; `ground` is the lowest Ritz value, a little above `low`."""

    low: float
    high: float
    ground: float


def spectral_interval(kernel: SymmetricOperator, time: float) -> Interval:
    """The ends of the spectrum of H by Lanczos from a random vector, widened by the residuals of the two Ritz pairs.

    The lower end is found to an energy below 1/time, so that exp(-time (H - low)) stays near 1 for the ground state.
    """
    work = Workspace(kernel)
    v, w = np.zeros(kernel.dim), np.zeros(kernel.dim)
    work.add_noise(v, 0)
    v *= 1.0 / np.sqrt(work.dot(v, v))
    diagonal: list[float] = []
    off: list[float] = []
    for step in range(1, INTERVAL_STEPS + 1):
        alpha, _ = work.apply(v, w, off[-1] if off else 0.0, w)
        beta = float(np.sqrt(work.combine(advance, w, v, alpha, 1.0)))
        diagonal.append(alpha)
        exhausted = beta <= 1e-12 * max(kernel.norm_bound, 1e-300)
        if step % 5 == 0 or exhausted:
            ritz, vectors = eigh_tridiagonal(np.array(diagonal), np.array(off))
            residuals = beta * np.abs(vectors[-1, [0, -1]])
            width = ritz[-1] - ritz[0]
            if exhausted or (residuals.max() <= INTERVAL_ACCURACY * width and residuals[0] * time <= 1.0):
                break
        off.append(beta)
        w *= 1.0 / beta
        v, w = w, v
    return Interval(float(ritz[0] - residuals[0]), float(ritz[-1] + residuals[1]), float(ritz[0]))


def exponential_coefficients(extent: float, accuracy: float) -> tuple[np.ndarray, float]:
    """a_k of exp(-extent (y + 1)) on |y| <= 1, and the bound on what is cut off.

    The bound, sum over k left out of |a_k| max(1, k^2/extent), holds for the exponential and, in units of t |C|, for its
    derivative.

    Raises:
        ValueError: more than `MAX_TERMS` terms are needed.

    Example:
        >>> a, left_out = exponential_coefficients(3.0, 1e-12)
        >>> bool(abs(np.polynomial.chebyshev.chebval(0.3, a) - np.exp(-3.9)) < 1e-12), len(a)
        (True, 19)
    """
    orders = np.arange(min(int(60 + 10 * np.sqrt(extent)), 2 * MAX_TERMS))
    a = np.where(orders > 0, 2.0, 1.0) * (-1.0) ** orders * ive(orders, extent)
    tails = np.cumsum((np.abs(a) * np.maximum(1.0, orders**2 / max(extent, 1e-300)))[::-1])[::-1]
    terms = max(int(np.count_nonzero(tails > accuracy)), 1)
    if terms > MAX_TERMS:
        raise ValueError(
            f"The temperature is too low: exp(-H/2T) would need more than {MAX_TERMS} products. "
            "Use ExactDiagonalization, the limit T = 0, or a higher temperature."
        )
    return a[:terms], float(tails[terms]) if terms < len(tails) else 0.0


class ImaginaryTime:
    """exp(-time (H - floor)) for stacks of real vectors.

    Args:
        h: the Hamiltonian; its vectors have 2^n_bits entries.
        time: t > 0.
        vectors: how many vectors there will be; they are stacked where they are small.
        accuracy: bound on the error relative to the vector's own share of the partition function, see `error`.
        threads: of the kernel.

    Attributes: `rows`, the vectors in a stack; `floor`; `terms` of the polynomial; `error`, the bound on its truncation
    relative to exp(-t (E_0 - floor)) 2^(-n_sites/2), which is the least norm that evolved random vectors have on average;
    `products` with H or a perturbation so far, counted per vector.
    """

    def __init__(self, h: SpinHamiltonian, time: float, vectors: int, accuracy: float, threads: int | None = None):
        stack = max(min(STACK_BITS - h.n_bits, (vectors - 1).bit_length()), TILE_BITS - h.n_bits, 0)
        self.bits, self.rows, self.threads = h.n_bits + stack, 1 << stack, threads
        self.interval = spectral_interval(self._kernel(h.x, h.z, h.coefficients), time)
        low, high, ground = self.interval
        self.time, self.floor = time, low
        self.half = max((high - low) / 2, 1e-12 * float(np.abs(h.coefficients).sum()), 1e-12 / time)
        scale = 2.0 ** (-h.n_sites / 2) * np.exp(-time * (ground - low))
        self.coefficients, left_out = exponential_coefficients(time * self.half, accuracy * scale)
        self.error = left_out / scale
        self.products = 0
        self._work = Workspace(self.perturbation(h, -(low + self.half)))

    @property
    def terms(self) -> int:
        """Degree of the polynomial, plus one."""
        return len(self.coefficients)

    def perturbation(self, c: SpinHamiltonian, constant: float) -> PauliKernel:
        """The kernel of (2/h) (C + constant), as `differentiate` wants it."""
        x, z, coefficients = np.append(c.x, 0), np.append(c.z, 0), np.append(c.coefficients, constant)
        return self._kernel(x, z, coefficients * (2.0 / self.half))

    def evolve(self, stack: np.ndarray) -> np.ndarray:
        """exp(-t (H - floor)) v of every row v; shape (rows, 2^n_bits)."""
        return self.differentiate(stack, ())[0]

    def differentiate(
        self, stack: np.ndarray, perturbations: Sequence[PauliKernel]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The evolved rows, and for every perturbation C their derivatives by beta where H becomes H + beta C."""
        before = np.array(stack, dtype=np.float64).reshape(-1)
        result = self.coefficients[0] * before
        now = np.empty_like(before)
        self._product(before, before, 0.0, now)
        now *= 0.5
        slopes = [_Slope(self._work, kernel, before) for kernel in perturbations]
        for k, a in enumerate(self.coefficients[1:], start=1):
            if k > 1:
                for slope in slopes:
                    slope.advance(now)
                self._product(now, before, 1.0, before)
                before, now = now, before
            self._work.combine(add, result, now, a)
            for slope in slopes:
                self._work.combine(add, slope.result, slope.now, a)
        self.products += stack.shape[0] * len(self.coefficients) * (1 + 2 * len(slopes))
        return result.reshape(stack.shape), [slope.result.reshape(stack.shape) for slope in slopes]

    def _product(self, x: Float1D, previous: Float1D, beta: float, out: Float1D) -> None:
        self._work.apply(x, previous, beta, out)

    def _kernel(self, x: np.ndarray, z: np.ndarray, coefficients: np.ndarray) -> PauliKernel:
        return PauliKernel(self.bits, x, z, coefficients, threads=self.threads)


class _Slope:
    """The recurrence of dT_k(H~) v along one perturbation; starts at k = 1."""

    def __init__(self, work: Workspace, perturbation: PauliKernel, vector: Float1D):
        self.work, self.perturbation = work, perturbation
        self.before, self.now, self.result = np.zeros_like(vector), np.empty_like(vector), np.zeros_like(vector)
        perturbation.apply(vector, self.now)
        self.now *= 0.5

    def advance(self, chebyshev: Float1D) -> None:
        """From dT_(k-1), dT_k and T_k v to dT_(k+1)."""
        self.work.apply(self.now, self.before, 1.0, self.before)
        self.perturbation.apply_lanczos(chebyshev, self.before, -1.0, self.before)
        self.before, self.now = self.now, self.before
