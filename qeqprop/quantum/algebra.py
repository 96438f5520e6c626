"""Sums of products with coefficients: what the algebras of Pauli strings and of positions and momenta have in common."""

import abc
import cmath
import numbers
import operator
from collections.abc import Iterable, Iterator
from typing import Any, Self


class AbstractSum(abc.ABC):
    """An element of an algebra, as its terms in a fixed order. Immutable and hashable; numbers are multiples of 1."""

    __slots__ = ("_hash", "_terms")
    _terms: tuple[Any, ...]
    _hash: int

    # NumPy scalars and arrays leave `array * operator` to us, instead of spreading the operator over an object array.
    __array_ufunc__ = None

    @classmethod
    @abc.abstractmethod
    def _from_valid(cls, terms: Iterable[Any]) -> Self:
        """The sum of terms that may be equal or zero, but need no check."""

    @classmethod
    @abc.abstractmethod
    def _coerced(cls, value: object) -> Self | None:
        """A number as a multiple of 1, an element as it is; None of anything else."""

    @abc.abstractmethod
    def __neg__(self) -> Self: ...

    @abc.abstractmethod
    def __mul__(self, other: Any) -> Self: ...

    def _fill(self, terms: tuple[Any, ...]) -> None:
        object.__setattr__(self, "_terms", terms)
        object.__setattr__(self, "_hash", hash(terms))

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Iterate over the terms."""

    def __len__(self) -> int:
        """The number of terms; 0 for the zero operator."""
        return len(self._terms)

    def __add__(self, other: Self | complex) -> Self:
        summand = self._coerced(other)
        return NotImplemented if summand is None else self._from_valid((*self, *summand))

    def __radd__(self, other: complex) -> Self:
        return self.__add__(other)  # not `self + other`, which would ask `other` again

    def __sub__(self, other: Self | complex) -> Self:
        summand = self._coerced(other)
        return NotImplemented if summand is None else self + -summand

    def __rsub__(self, other: complex) -> Self:
        return (-self).__add__(other)

    def __rmul__(self, other: complex) -> Self:
        return self.__mul__(other)

    def __pow__(self, exponent: int) -> Self:
        power = self._coerced(1.0)
        assert power is not None
        for _ in range(check_index(exponent, "exponent")):
            power = power * self
        return power

    def __eq__(self, other: object) -> bool:
        return self._terms == other._terms if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: attribute `{name}` cannot be set.")

    def __reduce__(self) -> tuple[type[Self], tuple[Any]]:
        return type(self), (self._terms,)


def check_index(value: object, name: str) -> int:
    """`value` as an integer >= 0. TypeError, ValueError: it is none."""
    try:
        index = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        index = None
    if index is None or isinstance(value, bool):
        raise TypeError(f"Argument `{name}` must be a non-negative integer, but is {value!r}.")
    if index < 0:
        raise ValueError(f"Argument `{name}` must be a non-negative integer, but is {value!r}.")
    return index


def check_number(value: object, name: str) -> complex:
    """`value` as a finite complex number. TypeError: no number. ValueError: not finite."""
    if not isinstance(value, numbers.Complex) or isinstance(value, bool):
        raise TypeError(f"Argument `{name}` must be a number, but is {value!r}.")
    number = complex(value)
    if not cmath.isfinite(number):
        raise ValueError(f"Argument `{name}` must be finite, but is {value!r}.")
    return number
