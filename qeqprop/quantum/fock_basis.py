"""Truncated bases of oscillators: positions, momenta and functions of them as sparse matrices.

Every matrix is the projection of the true operator: products are taken in a larger basis and cut afterwards, so that
polynomial Hamiltonians have energies from above. Distances between nodes are integrated by Gauss and Hermite's rule.
"""

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from .operators import MatrixOperator
from .quadratic import Quadratic

EDGE = 2
"""Highest levels whose population is watched: two, since an even potential leaves every second level empty."""
EXTRA_POINTS, MOST_POINTS, GRID = 6, 64, 2_000_000
"""Points of the quadrature along a coordinate: at least so many beyond the levels, up to `MOST_POINTS` on grids of `GRID`."""


@dataclass(frozen=True)
class FockBasis:
    """Products of oscillator states |n_1> |n_2> ..., n < levels, one factor for every coordinate.

    r = center + width (a + a^+) and p = (hbar / 2 width) i (a^+ - a); coordinates: site * components + component, the
    first of which is the most significant.

    Attributes:
        n_sites, components: the nodes.
        levels: states kept of every oscillator.
        hbar: Planck's constant.
        center: positions about which the oscillators sit, one a coordinate.
        width: their zero-point widths, sqrt(hbar / (2 m omega)).
    """

    n_sites: int
    components: int
    levels: int
    hbar: float
    center: tuple[float, ...]
    width: tuple[float, ...]

    @property
    def n_coordinates(self) -> int:
        return self.n_sites * self.components

    @property
    def dim(self) -> int:
        """Dimension of the truncated space."""
        return int(self.levels**self.n_coordinates)

    def power(self, kind: str, coordinate: int, exponent: int) -> np.ndarray:
        """The projection of r^exponent ("R") or p^exponent ("P") of one oscillator, shape (levels, levels)."""
        lower = np.diag(np.sqrt(np.arange(1, self.levels + exponent)), 1)
        width = self.width[coordinate]
        if kind == "R":
            variable = self.center[coordinate] * np.eye(len(lower)) + width * (lower + lower.T)
        else:
            variable = 0.5j * self.hbar / width * (lower.T - lower)
        return np.linalg.matrix_power(variable, exponent)[: self.levels, : self.levels]

    def embed(self, factors: Mapping[int, np.ndarray]) -> sp.csr_array:
        """The product of one-oscillator matrices {coordinate: matrix}, identities elsewhere."""
        total, done = sp.eye_array(1, format="csr"), 0
        for coordinate in sorted(factors):
            gap = sp.eye_array(self.levels ** (coordinate - done))
            total = sp.kron(sp.kron(total, gap), sp.csr_array(factors[coordinate]), format="csr")
            done = coordinate + 1
        return sp.csr_array(sp.kron(total, sp.eye_array(self.levels ** (self.n_coordinates - done)), format="csr"))

    def __repr__(self) -> str:
        return f"FockBasis({self.n_coordinates} oscillators of {self.levels} levels)"


@functools.lru_cache(maxsize=64)
def operator(basis: FockBasis, observable: Quadratic) -> MatrixOperator:
    """A polynomial in positions and momenta as a matrix.

    Raises:
        ValueError: the polynomial acts beyond the last site or component.
    """
    if observable.max_site >= basis.n_sites or observable.max_component >= basis.components:
        raise ValueError(
            f"{observable!r} acts on site {observable.max_site}, component {observable.max_component}, but there are "
            f"{basis.n_sites} sites of {basis.components} components."
        )
    total = sp.csr_array((basis.dim, basis.dim))
    for monomial, coefficient in observable:
        exponents: dict[int, int] = {}
        for _, site, component in monomial:
            coordinate = site * basis.components + component
            exponents[coordinate] = exponents.get(coordinate, 0) + 1
        powers = {c: basis.power(monomial[0][0], c, exponent) for c, exponent in exponents.items()}
        total = total + coefficient * basis.embed(powers)
    return MatrixOperator(total)


def as_matrix(basis: FockBasis, observable: Any) -> MatrixOperator:
    """An observable of a Fock space as a matrix."""
    if isinstance(observable, Quadratic):
        return operator(basis, observable)
    if isinstance(observable, MatrixOperator):
        return observable
    raise TypeError(
        "An observable of a Fock space must be a polynomial in R(i) and P(i) or a MatrixOperator, not "
        f"{type(observable).__name__}."
    )


def quartic(basis: FockBasis, site: int) -> MatrixOperator:
    """|r|^4 = sum_ab r_a^2 r_b^2 over the components of a node."""
    coordinates = [site * basis.components + component for component in range(basis.components)]
    total = sum(basis.embed({c: basis.power("R", c, 4)}) for c in coordinates)
    for a, b in itertools.combinations(coordinates, 2):
        total = total + 2 * basis.embed({c: basis.power("R", c, 2) for c in (a, b)})
    return MatrixOperator(total)


def distance(basis: FockBasis, i: int, j: int) -> MatrixOperator:
    """|r_i - r_j| of two nodes.

    Quadrature converges exponentially while the nodes keep apart. Where they meet the distance has a kink, and the error
    is about 1e-3 of the width.
    """
    (i, j), levels, d = sorted((i, j)), basis.levels, basis.components
    points, weights = _quadrature(levels, max(levels + EXTRA_POINTS, min(MOST_POINTS, int(GRID ** (0.5 / d)))))
    axes = [basis.center[c] + basis.width[c] * points for site in (i, j) for c in range(site * d, (site + 1) * d)]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    values = np.sqrt(sum((grid[c] - grid[d + c]) ** 2 for c in range(d)))
    for _ in range(2 * d):  # one coordinate after the other: points first, levels (bra, ket) last
        values = np.tensordot(values, weights, axes=(0, 0))
    size = levels**d
    order = [*range(0, 4 * d, 2), *range(1, 4 * d, 2)]
    matrix = values.transpose(order).reshape(size**2, size**2)
    matrix[np.abs(matrix) < 1e-15 * np.abs(matrix).max()] = 0.0
    return MatrixOperator(_embed_pair(basis, i, j, sp.coo_array(matrix)))


def edge_projectors(basis: FockBasis) -> list[MatrixOperator]:
    """Projectors on the highest levels of every oscillator."""
    top = np.diag((np.arange(basis.levels) >= basis.levels - EDGE).astype(float))
    return [MatrixOperator(basis.embed({c: top})) for c in range(basis.n_coordinates)]


def _quadrature(levels: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of a + a^+ and the products <a|x><x|b> at each of them, shape (count, levels, levels)."""
    lower = np.diag(np.sqrt(np.arange(1, count)), 1)
    points, states = np.linalg.eigh(lower + lower.T)
    kept = states[:levels].T
    return points, kept[:, :, None] * kept[:, None, :]


def _embed_pair(basis: FockBasis, i: int, j: int, pair: sp.coo_array) -> sp.csr_array:
    """A matrix on the nodes i < j, with identities on all others."""
    size = basis.levels**basis.components
    between = size ** (j - i - 1)

    def spread(index: np.ndarray) -> np.ndarray:
        first, second = np.divmod(index[:, None], size)
        return ((first * between + np.arange(between)) * size + second).ravel()

    full = size * between * size
    inner = sp.csr_array(
        sp.coo_array(
            (np.repeat(pair.data, between), (spread(pair.coords[0]), spread(pair.coords[1]))), shape=(full, full)
        )
    )
    before, after = sp.eye_array(size**i), sp.eye_array(size ** (basis.n_sites - j - 1))
    return sp.csr_array(sp.kron(sp.kron(before, inner), after, format="csr"))


def bytes_needed(basis: FockBasis, n_terms: int, n_distances: int) -> int:
    """Memory of the sparse terms: a few elements a row, or levels^(2 components) for a distance."""
    widest = basis.levels ** (2 * basis.components)
    return 16 * basis.dim * (5 * n_terms + 2 * widest * n_distances)
