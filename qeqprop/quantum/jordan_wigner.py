r"""Pauli strings of a chain as free fermions (Jordan-Wigner).

Along the positions p of a chain, with the Majorana operators

$$ a_p = X_0 \cdots X_{p-1} Z_p , \qquad b_p = X_0 \cdots X_{p-1} Y_p , $$

every Pauli string is, up to its sign, a product of them. The bilinears are

$$ G_{rc} = (-1)^{r+c} \, \mathrm{i} \, a_r b_c , \qquad
   G_{pp} = X_p , \quad G_{p+1,p} = Z_p Z_{p+1} , \quad G_{p+2,p} = -Z_p X_{p+1} Z_{p+2} , \quad
   G_{p,p+1} = Y_p Y_{p+1} , $$

and a string with the a's on the rows R and the b's on the columns C has, in a Gaussian state with the real correlations
$Q_{rc} = \langle G_{rc} \rangle$, the expectation value $\pm \det Q_{RC}$ (Wick's theorem); it vanishes if R and C
differ in size. In a state of parity $P = \prod_p X_p = \pm 1$ a string is also P times the string of all other
Majoranas: this makes the bond that closes a ring a bilinear.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .pauli import PauliSum, identity

ADVICE = "Use ExactDiagonalization: it takes any spin network of up to about 20 spins."


class Bilinears(NamedTuple):
    """The strings that are one G_rc each: operator[k] contains coefficient[k] * G[row[k], col[k]].

    Where `wraps`, it is G times the parity of the state. All arrays have the shape (n_bilinears,).
    """

    operator: np.ndarray
    row: np.ndarray
    col: np.ndarray
    coefficient: np.ndarray
    wraps: np.ndarray

    def signed(self, parity: int) -> np.ndarray:
        """The coefficients in a state of the given parity."""
        return np.where(self.wraps, parity, 1.0) * self.coefficient


class Product(NamedTuple):
    """A string of several G's: coefficient * det Q[rows, cols] is its share of the operator's expectation value."""

    operator: int
    rows: np.ndarray
    cols: np.ndarray
    coefficient: float
    wraps: bool


class FermionTable(NamedTuple):
    """Some operators as fermions.

    Attributes:
        constant: the identity's coefficient in each operator.
        bilinears: the strings quadratic in fermions.
        products: those of higher order.
        odd: whether an operator has strings whose expectation value vanishes by a symmetry of the chain (parity, or
            complex conjugation).
    """

    constant: np.ndarray
    bilinears: Bilinears
    products: tuple[Product, ...]
    odd: np.ndarray

    def linear(self, values: np.ndarray, parity: int) -> np.ndarray:
        """The bilinears' share of every operator's expectation value, from the values of their G's."""
        weights = self.bilinears.signed(parity) * values
        return np.bincount(self.bilinears.operator, weights=weights, minlength=len(self.constant))

    def beyond_quadratic(self, strengths: np.ndarray) -> int | None:
        """The first operator, if any, that no quadratic Hamiltonian with these strengths can contain."""
        quartic = np.zeros(len(self.constant), dtype=bool)
        quartic[[product.operator for product in self.products]] = True
        bad = np.flatnonzero((quartic | self.odd) & (strengths != 0))
        return int(bad[0]) if bad.size else None


@functools.lru_cache(maxsize=64)
def fermion_table(operators: tuple[PauliSum, ...], order: tuple[int, ...]) -> FermionTable:
    """The fermions of some operators; `order[p]` is the site at position p of the chain.

    Raises:
        ValueError: an operator acts beyond the last site.
    """
    position = {site: p for p, site in enumerate(order)}
    constant, odd = np.zeros(len(operators)), np.zeros(len(operators), dtype=bool)
    bilinears: list[tuple[int, int, int, float, bool]] = []
    products = []
    for k, operator in enumerate(operators):
        if operator.max_site >= len(order):
            raise ValueError(f"The operator {operator} acts beyond the last site of a chain of {len(order)}.")
        for x, z, coefficient in operator:
            if x == z == 0:
                constant[k] = coefficient.real
            elif (found := _fermions(x, z, position)) is None:
                odd[k] = True
            else:
                rows, cols, sign, wraps = found
                if len(rows) == 1:
                    bilinears.append((k, rows[0], cols[0], sign * coefficient.real, wraps))
                else:
                    row, col = np.array([rows, cols], dtype=np.int64)
                    products.append(Product(k, row, col, sign * coefficient.real, wraps))
    types = (np.int64, np.int64, np.int64, np.float64, np.bool_)
    columns = list(zip(*bilinears, strict=True)) if bilinears else [()] * len(types)
    arrays: list[np.ndarray] = [np.array(column, dtype=dtype) for column, dtype in zip(columns, types, strict=True)]
    return FermionTable(constant, Bilinears(*arrays), tuple(products), odd)


@functools.lru_cache(maxsize=64)
def chain_order(operators: tuple[PauliSum, ...], n_sites: int) -> tuple[int, ...]:
    """The sites along the chains, or around the one ring, that the Z Z couplings of some operators form.

    Raises:
        ValueError: they form something else.

    Example:
        >>> from qeqprop.quantum.pauli import Z
        >>> chain_order((Z(0) * Z(2), Z(2) * Z(1)), 3)
        (0, 2, 1)
    """
    neighbours: list[list[int]] = [[] for _ in range(n_sites)]
    pairs = {z for operator in operators for x, z, _ in operator if x == 0 and z.bit_count() == 2}
    for i, j in sorted(tuple(_bits(pair)) for pair in pairs):
        neighbours[i].append(j)
        neighbours[j].append(i)
    for site, adjacent in enumerate(neighbours):
        if len(adjacent) > 2:
            raise ValueError(
                f"FreeFermions needs Z Z couplings that form chains or one ring, but site {site} has {len(adjacent)} "
                f"neighbours. {ADVICE}"
            )
    ends = [site for site in range(n_sites) if len(neighbours[site]) < 2]
    order: dict[int, None] = {}
    for end in ends:
        _walk(end, neighbours, order)
    if not ends:
        _walk(0, neighbours, order)
    if len(order) < n_sites:
        site = next(site for site in range(n_sites) if site not in order)
        raise ValueError(
            f"FreeFermions needs Z Z couplings that form chains or one ring of all sites, but site {site} lies on a "
            f"ring beside other sites: solve each part by itself. {ADVICE}"
        )
    return tuple(order)


def _walk(start: int, neighbours: Sequence[Sequence[int]], order: dict[int, None]) -> None:
    site: int | None = start
    while site is not None and site not in order:
        order[site] = None
        site = next((other for other in neighbours[site] if other not in order), None)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield (low := mask & -mask).bit_length() - 1
        mask ^= low


def _fermions(x: int, z: int, position: dict[int, int]) -> tuple[list[int], list[int], float, bool] | None:
    """(rows, cols, sign, wraps) of a string, or None where its expectation value vanishes."""
    if z.bit_count() % 2:  # it anticommutes with the parity
        return None
    n_sites = len(position)
    letters = {position[site]: (x >> site & 1, z >> site & 1) for site in _bits(x | z)}
    rows, cols = _majoranas(letters)
    if len(rows) != len(cols):
        return None
    if len(rows) == 1:
        row, col = rows[0], cols[0]
        return rows, cols, 1.0 if row == col else -((-1.0) ** (row + col)), False
    wraps = 2 * len(rows) > n_sites
    if wraps:
        rows, cols = (sorted(set(range(n_sites)).difference(sites)) for sites in (rows, cols))
    string = PauliSum([(_mask(letters, 0), _mask(letters, 1), 1.0)])
    product = functools.reduce(PauliSum.__matmul__, map(_bilinear, rows, cols), identity())
    if wraps:
        product = product @ PauliSum([((1 << n_sites) - 1, 0, 1.0)])
    ((_, _, sign),) = string @ product  # a string is its own inverse: what is left is their ratio
    return rows, cols, sign.real, wraps


def _majoranas(letters: dict[int, tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Positions of the a's and of the b's, ascending. From the last on, each Z or Y puts an X on all before it."""
    rows: list[int] = []
    cols: list[int] = []
    tail = 0
    for p in range(max(letters), min(letters) - 1, -1):
        x, z = letters.get(p, (0, 0))
        x ^= tail
        if x != z:  # Z is a, X is a b (up to i)
            rows.append(p)
        if x:  # Y is b
            cols.append(p)
        tail ^= z
    return rows[::-1], cols[::-1]


def _mask(letters: dict[int, tuple[int, int]], part: int) -> int:
    return sum(1 << p for p, letter in letters.items() if letter[part])


def _bilinear(row: int, col: int) -> PauliSum:
    """G_rc as a string over positions: Z X .. X Z for r > c, Y X .. X Y for r < c."""
    if row == col:
        return PauliSum([(1 << row, 0, 1.0)])
    low, high = min(row, col), max(row, col)
    ends, between = 1 << low | 1 << high, (1 << high) - (1 << low + 1)
    return PauliSum([(between if row > col else between | ends, ends, -((-1.0) ** (row + col)))])
