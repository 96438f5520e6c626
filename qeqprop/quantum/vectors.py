"""Passes over large vectors, fused so that each reads its operands once, in blocks shared out to threads."""

from collections.abc import Sequence
from typing import Any, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from .simd import FASTMATH
from .threads import run_blocks

Float1D = NDArray[np.float64]

BLOCK = 4096
"""Length of the pieces of a vector that threads share out and whose sums are added in a fixed order."""

NOISE = 1e-3
"""Norm of the random vector added to a cold start, relative to the start."""


class SymmetricOperator(Protocol):
    """What the solvers need of H. `PauliKernel` is one; `threads` (default 1) and `matvecs` are optional."""

    dim: int
    norm_bound: float

    def apply_lanczos(self, x: Float1D, previous: Float1D, beta: float, out: Float1D) -> tuple[float, float]:
        """out = H x - beta previous; returns (<x, out>, <out, out>). `previous` may be `out` or `x`."""
        ...


class Workspace:
    """Products and passes over vectors, in blocks shared out to the threads of the kernel; counts the products."""

    def __init__(self, kernel: SymmetricOperator) -> None:
        self.kernel = kernel
        self.matvecs = 0
        self.threads = int(getattr(kernel, "threads", 1))
        self.sums = np.zeros((-(-kernel.dim // BLOCK), 2))

    def apply(self, x: Float1D, previous: Float1D, beta: float, out: Float1D) -> tuple[float, float]:
        self.matvecs += 1
        return self.kernel.apply_lanczos(x, previous, beta, out)

    def combine2(self, function: Any, *args: Any) -> tuple[float, float]:
        """One pass of a blocked function and the two sums it returns."""
        run_blocks(function, self.sums.shape[0], self.threads, self.sums, *args)
        first, second = self.sums.sum(axis=0)
        return float(first), float(second)

    def combine(self, function: Any, *args: Any) -> float:
        return self.combine2(function, *args)[0]

    def dot(self, a: Float1D, b: Float1D) -> float:
        return self.combine(dot, a, b)

    def project(self, a: Float1D, vectors: Sequence[Float1D]) -> None:
        """a <- (1 - sum_i v_i v_i^T) a."""
        for vector in vectors:
            self.combine(add, a, vector, -self.dot(vector, a))

    def residual(self, psi: Float1D, out: Float1D) -> tuple[float, float]:
        """Energy E = <psi, H psi> and ||out||, with out = H psi - E psi."""
        energy, _ = self.apply(psi, psi, 0.0, out)
        return energy, float(np.sqrt(self.combine(advance, out, psi, energy, 1.0)))

    def add_noise(self, vector: Float1D, stream: int) -> None:
        """Add a reproducible random vector, small against `vector` unless that is zero."""
        norm = np.sqrt(self.dot(vector, vector))
        self.combine(add_noise, vector, (NOISE * norm if norm > 0.0 else 1.0) * np.sqrt(3.0 / vector.size), stream)


_blocked = numba.njit(cache=True, nogil=True, fastmath=FASTMATH)


@_blocked
def dot(first, last, sums, a, b):  # type: ignore[no-untyped-def]
    for block in range(first, last):
        u, v = a[block * BLOCK : (block + 1) * BLOCK], b[block * BLOCK : (block + 1) * BLOCK]
        s = 0.0
        for k in range(u.size):
            s += u[k] * v[k]
        sums[block, 0] = s


@_blocked
def add(first, last, sums, a, b, c):  # type: ignore[no-untyped-def]
    """a += c b."""
    for block in range(first, last):
        u, v = a[block * BLOCK : (block + 1) * BLOCK], b[block * BLOCK : (block + 1) * BLOCK]
        for k in range(u.size):
            u[k] += c * v[k]


@_blocked
def advance(first, last, sums, w, v, alpha, factor):  # type: ignore[no-untyped-def]
    """w = (w - alpha v) factor; sums <w, w>."""
    for block in range(first, last):
        a, b = w[block * BLOCK : (block + 1) * BLOCK], v[block * BLOCK : (block + 1) * BLOCK]
        s = 0.0
        for k in range(a.size):
            a[k] = (a[k] - alpha * b[k]) * factor
            s += a[k] * a[k]
        sums[block, 0] = s


@_blocked
def advance_and_add(first, last, sums, w, v, alpha, factor, c, psi):  # type: ignore[no-untyped-def]
    """w = (w - alpha v) factor and psi += c v."""
    for block in range(first, last):
        a, b = w[block * BLOCK : (block + 1) * BLOCK], v[block * BLOCK : (block + 1) * BLOCK]
        d = psi[block * BLOCK : (block + 1) * BLOCK]
        for k in range(a.size):
            a[k] = (a[k] - alpha * b[k]) * factor
            d[k] += c * b[k]


@_blocked
def cg_update(first, last, sums, x, p, r, out, length, ratio):  # type: ignore[no-untyped-def]
    """x += length p, r -= length out, p = r + ratio p; sums <r, r>, <p, p>."""
    for block in range(first, last):
        a, b = x[block * BLOCK : (block + 1) * BLOCK], p[block * BLOCK : (block + 1) * BLOCK]
        c, d = r[block * BLOCK : (block + 1) * BLOCK], out[block * BLOCK : (block + 1) * BLOCK]
        s = t = 0.0
        for k in range(a.size):
            a[k] += length * b[k]
            c[k] -= length * d[k]
            b[k] = c[k] + ratio * b[k]
            s += c[k] * c[k]
            t += b[k] * b[k]
        sums[block, 0], sums[block, 1] = s, t


@_blocked
def add_noise(first, last, sums, a, size, stream):  # type: ignore[no-untyped-def]
    """a[k] += size * uniform(-1, 1) from a hash of (stream, k) (splitmix64): the same for any number of threads."""
    for k in range(first * BLOCK, min(last * BLOCK, a.size)):
        h = (np.uint64(k) + np.uint64(1) + (np.uint64(stream) << np.uint64(40))) * np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
        a[k] += size * (np.float64(h >> np.uint64(11)) * 2.0**-52 - 1.0)
