"""What a measured gradient costs: how often a state had to be prepared."""

from typing import NamedTuple

import numpy as np

from ..core.gradient import EPGradient
from ..core.scheme import Stencil


class PhaseCost(NamedTuple):
    """Preparations of one phase: settings * shots * samples."""

    strength: float
    settings: int
    shots: int
    samples: int
    used: bool
    """Whether the estimate needs this phase; the others give the loss, the error signal and the truncation error."""

    @property
    def preparations(self) -> int:
        return self.settings * self.shots * self.samples


class Preparations(NamedTuple):
    """State preparations of a gradient, phase by phase. Prints a table."""

    phases: tuple[PhaseCost, ...]

    @property
    def total(self) -> int:
        """Of all phases."""
        return sum(phase.preparations for phase in self.phases)

    @property
    def used(self) -> int:
        """Of the phases that enter the difference quotient."""
        return sum(phase.preparations for phase in self.phases if phase.used)

    def __repr__(self) -> str:
        rows = [f"Preparations  {self.total} in all, {self.used} of them in the difference quotient"]
        rows.append(f"  {'beta':>10}{'settings':>10}{'shots':>10}{'samples':>10}{'preparations':>14}")
        for phase in self.phases:
            rows.append(
                f"  {phase.strength:>10.4g}{phase.settings:>10}{phase.shots:>10}{phase.samples:>10}"
                f"{phase.preparations:>14}" + ("" if phase.used else "  loss, signal, truncation")
            )
        return "\n".join(rows)


def preparations(gradient: EPGradient) -> Preparations:
    """State preparations that one gradient with a `Measured` solver took.

    The free phase counts as used where the formula has a weight on it (`one_sided`). An error signal that is measured
    needs it as well, whatever the formula.

    Raises:
        ValueError: the gradient was not measured by equilibrium propagation.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(1)), scheme=qp.centered(0.1), key=1,
        ...                      solver=qp.Measured(qp.ExactDiagonalization(), shots=500))
        >>> preparations(out)
        Preparations  3000 in all, 2000 of them in the difference quotient
                beta  settings     shots   samples  preparations
                   0         2       500         1          1000  loss, signal, truncation
                 0.1         2       500         1          1000
                -0.1         2       500         1          1000
    """
    if "preparations" not in gradient.free.stats or not isinstance(gradient.scheme, Stencil):
        raise ValueError("Argument `gradient` must come from ep_gradient(..., solver=Measured(...)).")
    weights = dict(zip(gradient.scheme.strengths, gradient.scheme.weights, strict=True))
    phases = ((0.0, gradient.free), *gradient.nudged)
    return Preparations(
        tuple(
            PhaseCost(
                strength=complex(strength).real,
                settings=phase.stats["settings"],
                shots=phase.stats["shots"],
                samples=int(np.size(gradient.losses)),  # also where the solver went sample by sample
                used=weights.get(strength, 0) != 0,
            )
            for strength, phase in phases
        )
    )
