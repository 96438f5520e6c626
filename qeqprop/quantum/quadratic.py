r"""Polynomials of degree two in positions and momenta: the observables of oscillator networks.

O = c + sum_i a_i R_i + sum_ij b_ij R_i R_j + sum_i u_i P_i + sum_ij v_ij P_i P_j ,      [R_i, P_j] = i hbar delta_ij
"""

import functools
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .algebra import AbstractSum, check_index, check_number

Variable = tuple[str, int, int]
Monomial = tuple[Variable, ...]

_SHOWN = 12  # repr shows at most this many monomials


class Quadratic(AbstractSum):
    """A real polynomial of degree at most 2 in positions R(i) and momenta P(i). Immutable and hashable.

    Built from `R`, `P`, numbers and `+ - * / **`. Products of a position and a momentum are refused: every equilibrium
    of a harmonic network is even under time reversal, so that the symmetrised product R P + P R has no expectation
    beyond 2 <R><P> and, as a nudge, no effect on a force to first order.

    Args:
        terms: `{monomial: coefficient}`; a monomial is a tuple of up to two variables ("R" or "P", site, component).

    Raises:
        ValueError: a degree above 2, a product of R and P, a coefficient that is not finite.
        TypeError: a coefficient that is not a real number.

    Example:
        >>> import qeqprop as qp
        >>> (qp.R(2) - 0.5) ** 2
        0.25 - 1.0 * R2 + 1.0 * R2^2
        >>> qp.P(0) ** 2 / 2 + 0.5 * (qp.R(0, 1) - qp.R(1, 1)) ** 2
        0.5 * P0^2 + 0.5 * R0,1^2 - 1.0 * R0,1 R1,1 + 0.5 * R1,1^2
    """

    __slots__ = ()
    _terms: tuple[tuple[Monomial, float], ...]

    def __init__(self, terms: Mapping[Any, float] | Iterable[tuple[Monomial, float]] = ()) -> None:
        found: dict[Monomial, list[float]] = {}
        for monomial, coefficient in terms.items() if isinstance(terms, Mapping) else terms:
            found.setdefault(_ordered(monomial), []).append(_check_real(coefficient))
        summed = {monomial: math.fsum(found[monomial]) for monomial in sorted(found, key=lambda m: (len(m), m))}
        self._fill(tuple((m, c) for m, c in summed.items() if c))

    @classmethod
    def _from_valid(cls, terms: Iterable[tuple[Monomial, float]]) -> "Quadratic":
        return cls(terms)

    @classmethod
    def _coerced(cls, value: object) -> "Quadratic | None":
        if isinstance(value, numbers.Complex):
            return cls({(): _check_real(value)})
        return value if isinstance(value, Quadratic) else None

    def __iter__(self) -> Iterator[tuple[Monomial, float]]:
        """Iterate over `(monomial, coefficient)`, lower degrees first."""
        return iter(self._terms)

    @property
    def degree(self) -> int:
        """0, 1 or 2; 0 for the zero operator."""
        return max((len(monomial) for monomial, _ in self), default=0)

    @property
    def max_site(self) -> int:
        """The largest site acted upon; -1 if there is none."""
        return max((site for monomial, _ in self for _, site, _ in monomial), default=-1)

    @property
    def max_component(self) -> int:
        """The largest component acted upon; -1 if there is none."""
        return max((component for monomial, _ in self for _, _, component in monomial), default=-1)

    @property
    def is_hermitian(self) -> bool:
        return True  # real coefficients and commuting factors, by construction

    @property
    def norm_bound(self) -> float:
        """Positions and momenta are unbounded: infinite, unless the operator is a constant."""
        return math.inf if self.degree else abs(self.constant)

    @property
    def constant(self) -> float:
        """The coefficient of the identity."""
        return next((c for monomial, c in self if not monomial), 0.0)

    def without_identity(self) -> "Quadratic":
        """The part of degree 1 and 2."""
        return Quadratic((m, c) for m, c in self if m)

    def __neg__(self) -> "Quadratic":
        return Quadratic((m, -c) for m, c in self)

    def __mul__(self, other: "Quadratic | float") -> "Quadratic":
        factor = self._coerced(other)
        if factor is None:
            return NotImplemented
        return Quadratic((m1 + m2, c1 * c2) for m1, c1 in self for m2, c2 in factor)

    def __truediv__(self, other: float) -> "Quadratic":
        return self * (1.0 / _check_real(other))

    def __repr__(self) -> str:
        text = ""
        for monomial, coefficient in self._terms[:_SHOWN]:
            sign = (" - " if coefficient < 0 else " + ") if text else ("-" if coefficient < 0 else "")
            label = _label(monomial)
            text += f"{sign}{abs(coefficient)!r}" + (f" * {label}" if label else "")
        more = f" ... ({len(self)} terms)" if len(self) > _SHOWN else ""
        return (text or "0.0") + more


def R(site: int, component: int = 0) -> Quadratic:
    """The position of one node (its displacement from the origin), in one of its components."""
    return Quadratic({(("R", check_index(site, "site"), check_index(component, "component")),): 1.0})


def P(site: int, component: int = 0) -> Quadratic:
    """The momentum of one node, in one of its components."""
    return Quadratic({(("P", check_index(site, "site"), check_index(component, "component")),): 1.0})


class Half(NamedTuple):
    """Positions' or momenta's part of a polynomial: sum_k values_k x[at_k] + sum_k products_k x[left_k] x[right_k]."""

    at: np.ndarray
    values: np.ndarray
    left: np.ndarray
    right: np.ndarray
    products: np.ndarray


@functools.lru_cache(maxsize=256)
def halves(observable: Quadratic, n_sites: int, components: int) -> tuple[float, Half, Half]:
    """Constant, position part and momentum part over the coordinates site * components + component.

    Raises:
        ValueError: the operator acts beyond the last site or component.
    """
    if observable.max_site >= n_sites:
        raise ValueError(
            f"{observable!r} acts on site {observable.max_site}, but the network has n_sites={n_sites} "
            f"(sites 0 to {n_sites - 1})."
        )
    if observable.max_component >= components:
        raise ValueError(
            f"{observable!r} acts on component {observable.max_component}, but the nodes have components={components}."
        )
    rows: dict[tuple[str, int], list[tuple[list[int], float]]] = {}
    for monomial, coefficient in observable:
        if monomial:
            flat = [site * components + component for _, site, component in monomial]
            rows.setdefault((monomial[0][0], len(monomial)), []).append((flat, coefficient))

    def half(kind: str) -> Half:
        linear, square = rows.get((kind, 1), []), rows.get((kind, 2), [])
        one = np.array([flat for flat, _ in linear], dtype=np.int64).reshape(-1, 1)
        two = np.array([flat for flat, _ in square], dtype=np.int64).reshape(-1, 2)
        values, products = (np.array([c for _, c in part], dtype=np.float64) for part in (linear, square))
        return Half(one[:, 0], values, two[:, 0], two[:, 1], products)

    return observable.constant, half("R"), half("P")


def _ordered(monomial: Monomial) -> Monomial:
    if len(monomial) > 2:
        raise ValueError(
            f"The degree must be at most 2, but {_label(tuple(monomial))} has degree {len(monomial)}: a higher power "
            "leaves no Gaussian state. Use an OperatorSystem in a truncated oscillator basis."
        )
    kinds = {kind for kind, _, _ in monomial}
    if len(kinds) == 2:
        raise ValueError(
            f"The product {_label(tuple(monomial))} of a position and a momentum is not supported: its symmetrised "
            "form (R P + P R)/2 has the expectation <R><P> in every equilibrium and, as a nudge, moves no force to "
            "first order. Leave it out."
        )
    return tuple(sorted(monomial))


def _label(monomial: Monomial) -> str:
    names = [f"{kind}{site}" + (f",{component}" if component else "") for kind, site, component in monomial]
    return f"{names[0]}^2" if len(names) == 2 and names[0] == names[1] else " ".join(names)


def _check_real(value: object) -> float:
    number = check_number(value, "coefficient")
    if number.imag:
        raise TypeError(f"Argument `coefficient` must be real, but is {value!r}.")
    return float(number.real)
