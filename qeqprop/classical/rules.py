"""The learning rules of energy-based networks as data: each is a nudge and a stencil."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..core.nudge import AbstractNudge
from ..core.scheme import Stencil, centered, one_sided
from .clamp import Clamp
from .state_cost import StateCost, check_alike


class LearningRule(NamedTuple):
    """A rule for `ep_gradient`: `ep_gradient(system, params, rule.nudge(nodes), y, scheme=rule.scheme(beta))`.

    Attributes:
        nudge: the nudge on the output nodes.
        scheme: the stencil at strength beta > 0 (contrastive learning has no strength and ignores it).
        gradient_of: the function of theta whose exact gradient it is at finite beta; None where there is none.
    """

    nudge: Callable[[Sequence[int]], AbstractNudge]
    scheme: Callable[[float], Stencil]
    gradient_of: str | None


def half_squared_error(outputs: Any, target: Any) -> Any:
    """sum (s - y)^2 / 2, for targets y of the shape of the outputs: the nudge is a spring of stiffness beta on every output.

    Raises:
        ValueError: a target of another shape, such as class labels.

    Example:
        >>> import numpy as np
        >>> print(half_squared_error(np.array([0.5, 0.0]), np.array([1.0, 0.0])))
        0.125
    """
    check_alike(outputs, target)
    return ((outputs - target) ** 2).sum() / 2


def _pull(nodes: Sequence[int]) -> StateCost:
    return StateCost(half_squared_error, nodes)


def _negative(beta: float) -> Stencil:
    return one_sided(-beta)


RULES: dict[str, LearningRule] = {
    "CL": LearningRule(Clamp, lambda beta: one_sided(1.0), "min E(s | outputs = y) - min E(s)"),
    "P-EP": LearningRule(_pull, one_sided, "[e(beta) - e(0)] / beta"),
    "N-EP": LearningRule(_pull, _negative, "[e(0) - e(-beta)] / beta"),
    "C-EP": LearningRule(_pull, centered, "[e(beta) - e(-beta)] / (2 beta)"),
    "P-CpL": LearningRule(Clamp, one_sided, None),
    "N-CpL": LearningRule(Clamp, _negative, None),
    "C-CpL": LearningRule(Clamp, centered, None),
}
"""The seven rules of Scellier, Ernoult, Kendall and Kumar, arXiv:2312.15103 (2023), on every classical energy system.

| rule | nudged phase | stencil | gradient of |
|---|---|---|---|
| CL (contrastive learning) | outputs held at y | `one_sided(1)` | min E(s, outputs = y) - min E(s) |
| P-EP (positive EP) | spring beta to y | `one_sided(beta)` | [e(beta) - e(0)] / beta |
| N-EP (negative EP) | spring -beta to y | `one_sided(-beta)` | [e(0) - e(-beta)] / beta |
| C-EP (centered EP) | springs beta and -beta | `centered(beta)` | [e(beta) - e(-beta)] / (2 beta) |
| P-CpL (coupled learning) | outputs held at s + beta (y - s) | `one_sided(beta)` | no function, but for beta = 1 (CL) |
| N-CpL | outputs held at s - beta (y - s) | `one_sided(-beta)` | no function |
| C-CpL | both | `centered(beta)` | no function |

e(b) is the equilibrium energy with the nudge b |outputs - y|^2 / 2, and s the outputs of the free state.

Example:
    >>> import qeqprop as qp
    >>> rule = qp.classical.RULES["C-CpL"]
    >>> divider = qp.classical.FlowNetwork(3, [(0, 1), (1, 2)], driven=[0], grounded=[2])
    >>> out = qp.ep_gradient(divider, {"k": [2.0, 1.0]}, rule.nudge([1]), [1.0], inputs=[3.0], scheme=rule.scheme(0.1))
    >>> print(out.grad["k"].round(6))
    [ 1. -2.]
"""
