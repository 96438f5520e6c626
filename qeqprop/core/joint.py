"""Phases that are handled together: what a system and a solver may offer besides, where it costs less than one by one.

Nothing is estimated in another way: the engine takes the same equilibria and the same sums of forces from here.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from .estimate import Estimate, combine
from .scheme import Stencil
from .solver import AbstractSolver, Equilibrium
from .system import AbstractSystem, Params


class AbstractSummingSystem(AbstractSystem):
    """A system that adds up the states of several phases before it makes a force of them.

    A force is a product of what a layer receives and what it does; layers that no phase moves, the inputs, take one product
    then and not one a phase.
    """

    @abc.abstractmethod
    def summed_force(self, params: Params, states: Sequence[Any], weights: Sequence[float]) -> Estimate:
        """sum_j w_j <dE/dtheta>_j over states of this system (of whatever nudges), batched like `param_grad`."""


class AbstractJointSolver(AbstractSolver):
    """A solver that relaxes several nudged phases at once, side by side in one batch."""

    @abc.abstractmethod
    def solve_nudged(
        self, system: AbstractSystem, params: Params, term: Any, strengths: Sequence[float], free: Equilibrium
    ) -> list[Equilibrium]:
        """What `solve` finds of `system.nudged(term, strength)` from the `free` equilibrium, for each of the strengths."""


class Forces:
    """The forces of all phases, known by their sums.

    Args:
        system: without the nudges of the phases.
        params: theta.
        phases: strength -> equilibrium.
    """

    def __init__(self, system: AbstractSystem, params: Params, phases: Mapping[complex, Equilibrium]):
        self._system, self._params, self._phases = system, params, phases
        self._each: dict[complex, Estimate] = {}

    def summed(self, stencil: Stencil, weights: Sequence[complex]) -> Estimate:
        """Re sum_j w_j F(b_j) over the strengths of the stencil; phases without weight are left out, with their noise."""
        used = [(b, w) for b, w in zip(stencil.strengths, weights, strict=True) if w != 0]
        if isinstance(self._system, AbstractSummingSystem):
            states = [self._phases[b].state for b, _ in used]
            return self._system.summed_force(self._params, states, [complex(w).real for _, w in used])
        return combine([w for _, w in used], [self._at(b) for b, _ in used])

    def _at(self, strength: complex) -> Estimate:
        if strength not in self._each:
            self._each[strength] = self._system.param_grad(self._params, self._phases[strength].state)
        return self._each[strength]
