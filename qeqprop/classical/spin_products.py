"""Observables of classical spins: sums of products of Z's, read from any Pauli sum without X and Y."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Product = tuple[int, ...]
"""The sites whose spins are multiplied, ascending; () is the constant 1."""


class ProductTable(NamedTuple):
    """Distinct products of some observables: observable k = sum_p coefficients[k, p] * products[p]."""

    products: tuple[Product, ...]
    coefficients: np.ndarray

    def check(self, n_sites: int) -> None:
        """Raise ValueError for sites that a state of `n_sites` spins does not have."""
        if (last := max((max(product, default=0) for product in self.products), default=0)) >= n_sites:
            raise ValueError(f"The observables read site {last}, but the state has {n_sites} spins.")


def spin_products(observable: Any) -> Iterator[tuple[Product, float]]:
    """The products of an observable such as `qp.Z(0) * qp.Z(2)`, with their coefficients.

    Raises:
        TypeError: not a Pauli sum. ValueError: it has an X or a Y, which classical spins do not have.

    Example:
        >>> import qeqprop as qp
        >>> list(spin_products(2 * qp.Z(0) * qp.Z(2)))
        [((0, 2), 2.0)]
    """
    if not hasattr(observable, "max_site"):
        raise TypeError(f"Classical spins show Pauli sums of Z's such as qp.Z(0), but not {observable!r}.")
    for x, z, coefficient in observable:
        if x:
            raise ValueError(f"Classical spins show products of Z's alone, but not {observable}: it has an X or a Y.")
        yield tuple(site for site in range(z.bit_length()) if z >> site & 1), float(coefficient.real)


@functools.lru_cache(maxsize=256)
def product_table(observables: tuple[Any, ...]) -> ProductTable:
    """What has to be averaged for the expectation values of the observables."""
    columns: dict[Product, int] = {}
    entries = [
        (row, columns.setdefault(product, len(columns)), coefficient)
        for row, observable in enumerate(observables)
        for product, coefficient in spin_products(observable)
    ]
    coefficients = np.zeros((len(observables), len(columns)))
    for row, column, coefficient in entries:
        coefficients[row, column] = coefficient
    return ProductTable(tuple(columns), coefficients)
