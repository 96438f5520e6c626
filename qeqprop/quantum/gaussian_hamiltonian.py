"""Quadratic Hamiltonians of oscillators, one of them or a batch: matrices as sums of entries."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .quadratic import Half


def deposited(shape: tuple[int, ...], where: Any, values: np.ndarray) -> np.ndarray:
    """An array of this shape with `values` added up at the places `where`, 0 elsewhere."""
    out = np.zeros(shape, values.dtype)
    np.add.at(out, where, values)
    return out


class Entries(NamedTuple):
    """A symmetric matrix as a sum of entries; a leading axis of the values is the batch axis.

    Entries at one place add up. Zeros keep their place: a spring of no stiffness has a force all the same.
    """

    size: int
    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray

    def plus(self, strength: complex, other: "Entries") -> "Entries":
        """self + strength * other; a matrix to which nothing is added stays shared by the batch."""
        if not other.rows.size:
            return self
        added = strength * other.values
        batch = np.broadcast_shapes(self.values.shape[:-1], added.shape[:-1])
        values = [np.broadcast_to(v, (*batch, v.shape[-1])) for v in (self.values, added)]
        return Entries(
            self.size,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.cols, other.cols]),
            np.concatenate(values, axis=-1),
        )

    def apply(self, x: np.ndarray) -> np.ndarray:
        """The matrix times (batches of) vectors (..., n)."""
        products = self.values * x[..., self.cols]
        return deposited((*products.shape[:-1], self.size), (..., self.rows), products)

    def magnitude(self) -> "Entries":
        """The absolute values."""
        return self._replace(values=np.abs(self.values))

    def toarray(self) -> np.ndarray:
        """Dense, shape (..., n, n)."""
        shape = (*self.values.shape[:-1], self.size, self.size)
        return deposited(shape, (..., self.rows, self.cols), self.values)

    def tosparse(self) -> sp.csc_array:
        """In compressed columns (not of a batch); zeros stay in the pattern."""
        return sp.csc_array(sp.coo_array((self.values, (self.rows, self.cols)), shape=(self.size, self.size)))


class QuadraticHamiltonian(NamedTuple):
    """H = p.A.p/2 + r.K.r/2 - force.r + drift.p + constant over coordinates site * components + component.

    Every spring has its entry in K (`stiffness`), also where k = 0; A is `inverse_mass`. Of a batch, force and drift
    have the batch axis first, and K and A where they differ from sample to sample.
    """

    stiffness: Entries
    inverse_mass: Entries
    force: np.ndarray
    drift: np.ndarray
    constant: np.ndarray

    def plus(self, strength: complex, other: "QuadraticHamiltonian") -> "QuadraticHamiltonian":
        """H + strength * other."""
        return QuadraticHamiltonian(
            self.stiffness.plus(strength, other.stiffness),
            self.inverse_mass.plus(strength, other.inverse_mass),
            self.force + strength * other.force,
            self.drift + strength * other.drift,
            self.constant + strength * other.constant,
        )


def spring_entries(on_site: np.ndarray, springs: np.ndarray, a: np.ndarray, b: np.ndarray) -> Entries:
    """sum_i on_site_i x_i^2 + sum_e springs_e (x_a - x_b)^2 as a matrix."""
    every = np.arange(len(on_site))
    return Entries(
        len(on_site),
        np.concatenate([every, a, b, a, b]),
        np.concatenate([every, a, b, b, a]),
        np.concatenate([on_site, springs, springs, -springs, -springs]),
    )


def combined(parts: Sequence[Half], weights: np.ndarray, n: int) -> tuple[Entries, np.ndarray]:
    """Hessian and slope at 0 of sum_k weights[..., k] * parts[k]."""
    slope = np.zeros((*weights.shape[:-1], n))
    for k, part in enumerate(parts):
        slope += deposited(slope.shape, (..., part.at), weights[..., k, None] * part.values)
    left, right = (np.concatenate([getattr(part, side) for part in parts]) for side in ("left", "right"))
    values = np.concatenate([weights[..., k, None] * part.products for k, part in enumerate(parts)], axis=-1)
    twice = (np.concatenate([left, right]), np.concatenate([right, left]), np.concatenate([values, values], axis=-1))
    return Entries(n, *twice), slope
