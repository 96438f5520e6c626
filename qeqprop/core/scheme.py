"""A scheme answers: how is the derivative in beta taken?

A `Stencil` is a table: nudge strengths b_j and weights w_j with

    sum_j w_j b_j^m = 1 if m == 1 else 0    for m = 0 .. order,

so that sum_j w_j F(b_j) = F'(0) + O(b^order). A second row of weights over the same strengths gives the truncation
error, as the embedded formula of a Runge-Kutta code does. `LinearResponse` is the limit beta -> 0 itself.
"""

import cmath
import math
from collections.abc import Iterable

import equinox as eqx
import numpy as np

from .module import AbstractModule
from .real import check_fraction, check_real


class AbstractScheme(AbstractModule):
    """A way to take d/dbeta at beta = 0. Either a `Stencil` or `LinearResponse`."""


class LinearResponse(AbstractScheme):
    """The limit beta -> 0, solved for directly: no nudge, no truncation error.

    The Sternheimer equation for ground states, implicit differentiation for classical minima, a covariance at a
    temperature. Needs a solver that can (`solver.responds`).

    Args:
        tolerance: relative residual to which the linear equation is solved.
    """

    tolerance: float = eqx.field(static=True)

    def __init__(self, tolerance: float = 1e-10):
        self.tolerance = check_fraction(tolerance, "tolerance")

    def __repr__(self) -> str:
        return f"LinearResponse(tolerance={self.tolerance:g})"


def _numbers(values: Iterable[complex] | None) -> tuple[complex, ...] | None:
    """Python numbers from any sequence, e.g. a NumPy array; real ones as floats."""
    return None if values is None else tuple(b.real if b.imag == 0 else b for b in map(complex, values))


class Stencil(AbstractScheme):
    """A difference formula in beta, as data.

    Args:
        name: how it prints.
        strengths: nudge strengths b_j. A complex strength stands for itself and its conjugate: the forces of a real
            system are real, so only the real part of w_j F(b_j) is kept.
        weights: w_j, complex where the strength is.
        order: declared order of the truncation error, checked against the moments at construction.
        embedded: weights of a second formula over the same strengths, from which the truncation is estimated.
        embedded_order: its declared order, at most `order`.

    Raises:
        ValueError: the weights do not satisfy the moment conditions of the declared order.

    Example:
        >>> Stencil("my forward formula", strengths=(0.0, 0.1), weights=(-10.0, 10.0), order=1)
        my forward formula
    """

    name: str = eqx.field(static=True)
    strengths: tuple[complex, ...] = eqx.field(static=True, converter=_numbers)
    weights: tuple[complex, ...] = eqx.field(static=True, converter=_numbers)
    order: int = eqx.field(static=True)
    embedded: tuple[complex, ...] | None = eqx.field(static=True, converter=_numbers, default=None)
    embedded_order: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if len(self.strengths) != len(self.weights) or len(set(self.strengths)) != len(self.strengths):
            raise ValueError(f"{self.name}: `strengths` must be distinct and as many as `weights`.")
        if not all(cmath.isfinite(b) for b in (*self.strengths, *self.weights)):
            raise ValueError(f"{self.name}: `strengths` and `weights` must be finite.")
        if not any(self.strengths) or self.order < 1:
            raise ValueError(f"{self.name}: a strength must differ from 0, and `order` must be at least 1.")
        self._check_moments(self.weights, self.order)
        if self.embedded is not None:
            if self.embedded_order is None or not 1 <= self.embedded_order <= self.order:
                raise ValueError(f"{self.name}: `embedded_order` must lie between 1 and the order {self.order}.")
            if len(self.embedded) != len(self.strengths):
                raise ValueError(f"{self.name}: `embedded` must be as many as `strengths`.")
            self._check_moments(self.embedded, self.embedded_order)
            if self.embedded == self.weights:
                raise ValueError(f"{self.name}: `embedded` must be another formula than `weights`.")

    def __repr__(self) -> str:
        return self.name

    @property
    def max_strength(self) -> float:
        """Largest |beta| of the stencil."""
        return max(abs(b) for b in self.strengths)

    @property
    def is_complex(self) -> bool:
        """Whether the solver must be analytic in beta."""
        return any(complex(b).imag != 0 for b in self.strengths)

    def moment(self, m: int, weights: tuple[complex, ...] | None = None) -> float:
        """Re sum_j w_j (b_j / max|b|)^m, in units in which the moment conditions read 0 or 1."""
        b, w = np.array(self.strengths) / self.max_strength, np.array(weights or self.weights) * self.max_strength
        return float(np.sum(w * b**m).real)

    def _check_moments(self, weights: tuple[complex, ...], order: int) -> None:
        scale = 1e-12 * max(1.0, self.max_strength * max(abs(w) for w in weights))
        for m in range(order + 1):
            if abs(self.moment(m, weights) - (m == 1)) > scale:
                raise ValueError(
                    f"{self.name}: the weights must satisfy sum_j w_j b_j^m = {int(m == 1)} for m = {m} to be of "
                    f"order {order}, but the sum is {self.moment(m, weights):.6g} (in units of the largest strength)."
                )
        if abs(self.moment(order + 1, weights)) <= scale:
            raise ValueError(f"{self.name}: the formula is of higher order than the declared {order}.")


def check_strength(beta: float, name: str = "beta") -> float:
    """`beta` as a finite float that is not 0."""
    if check_real(beta, name) == 0 or not math.isfinite(beta):
        raise ValueError(f"Argument `{name}` must be finite and not 0, but is {beta}.")
    return float(beta)


def one_sided(beta: float) -> Stencil:
    """[F(beta) - F(0)] / beta, order 1; a third phase at beta/2 gives the truncation error.

    Positive beta gives positive EP, negative beta negative EP (their losses bound <C> from below and from above).
    Exact at any beta for the loss [e(beta) - e(0)] / beta.

    Example:
        >>> stencil = one_sided(0.1)
        >>> print(round(sum(w * math.exp(b) for b, w in zip(stencil.strengths, stencil.weights)), 8))  # of exp at 0
        1.05170918
    """
    b = check_strength(beta)
    return Stencil(
        f"one_sided({b:g})",
        strengths=(0.0, b / 2, b),
        weights=(-1 / b, 0.0, 1 / b),
        order=1,
        embedded=(-2 / b, 2 / b, 0.0),
        embedded_order=1,
    )


def centered(beta: float) -> Stencil:
    """[F(beta) - F(-beta)] / (2 beta), order 2; the one-sided formula with the free state is embedded.

    Exact at any beta for the loss [e(beta) - e(-beta)] / (2 beta).

    Example:
        >>> stencil = centered(0.1)
        >>> print(round(sum(w * math.exp(b) for b, w in zip(stencil.strengths, stencil.weights)), 8))  # of exp at 0
        1.0016675
    """
    b = abs(check_strength(beta))
    return Stencil(
        f"centered({b:g})",
        strengths=(0.0, b, -b),
        weights=(0.0, 0.5 / b, -0.5 / b),
        order=2,
        embedded=(-1 / b, 1 / b, 0.0),
        embedded_order=1,
    )


def richardson(beta: float) -> Stencil:
    """(4 centered(beta/2) - centered(beta)) / 3, order 4; centered(beta/2) is embedded.

    Example:
        >>> stencil = richardson(0.1)
        >>> print(round(sum(w * math.exp(b) for b, w in zip(stencil.strengths, stencil.weights)), 8))  # of exp at 0
        0.99999979
    """
    b = abs(check_strength(beta))
    return Stencil(
        f"richardson({b:g})",
        strengths=(b / 2, -b / 2, b, -b),
        weights=(4 / (3 * b), -4 / (3 * b), -1 / (6 * b), 1 / (6 * b)),
        order=4,
        embedded=(1 / b, -1 / b, 0.0, 0.0),
        embedded_order=2,
    )


def holomorphic(radius: float, n_points: int = 8) -> Stencil:
    """Cauchy's formula over `n_points` nudges on the circle |beta| = radius: error O((radius/R)^n_points).

    R is the distance to the nearest exceptional point, so the error falls geometrically with the number of points at
    *finite* nudge (Laborieux & Zenke 2022). Needs an analytic solver. Conjugate nudges give conjugate forces, so only
    n_points/2 + 1 phases are solved. Every second point makes the embedded formula.

    Example:
        >>> stencil = holomorphic(0.5)
        >>> print(len(stencil.strengths), "phases")
        5 phases
        >>> print(round(sum((w * cmath.exp(b)).real for b, w in zip(stencil.strengths, stencil.weights)), 8))
        1.00000001
    """
    r = abs(check_strength(radius, "radius"))
    if isinstance(n_points, bool) or not isinstance(n_points, int) or n_points < 4 or n_points % 4:
        raise ValueError(f"Argument `n_points` must be a positive multiple of 4, but is {n_points!r}.")
    angles = [2 * math.pi * k / n_points for k in range(n_points // 2 + 1)]
    points = [complex(r), *(r * cmath.exp(1j * a) for a in angles[1:-1]), complex(-r)]
    # every inner point stands for its conjugate as well, hence the factor 2
    weights = [(1 if k in (0, n_points // 2) else 2) / (n_points * b) for k, b in enumerate(points)]
    embedded = [2 * w if k % 2 == 0 else 0.0 for k, w in enumerate(weights)]
    return Stencil(
        f"holomorphic({r:g}, n_points={n_points})",
        strengths=tuple(b.real if abs(b.imag) < 1e-15 * r else b for b in points),
        weights=tuple(weights),
        order=n_points,
        embedded=tuple(embedded),
        embedded_order=n_points // 2,
    )


def balanced_nudge(residual: float, scale: float | None, norm: float) -> Stencil | LinearResponse:
    """centered(beta) with beta = residual^(1/3) * scale / norm, where truncation and residual errors meet.

    Args:
        residual: of the solver.
        scale: the energy against which a nudge is small (a gap, or a temperature).
        norm: bound on the norm of the nudging term.

    Returns:
        `LinearResponse()` where no nudge can be chosen: nothing to nudge, or no (finite) scale known.
    """
    if scale is None or not math.isfinite(scale) or norm == 0:
        return LinearResponse()
    return centered(min(max(residual, 1e-12) ** (1 / 3), 0.09) * max(scale, 1e-12) / norm)
