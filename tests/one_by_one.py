"""A solver with the least that one must have."""

from typing import Any, ClassVar

import equinox as eqx

import qeqprop as qp
from qeqprop.core.solver import AbstractSolver, Equilibrium
from qeqprop.core.system import replaced


class OneByOne(AbstractSolver):
    """Exact diagonalisation without linear response, complex nudges and batches.

    Attributes:
        fails: the first input at which it says that it has not converged.
        starts: the inputs of every solve, and those of the equilibrium it started from.
    """

    fails: float | None = None
    starts: list[Any] = eqx.field(default_factory=list)
    exact: qp.ExactDiagonalization = eqx.field(default_factory=qp.ExactDiagonalization)
    name: ClassVar[str] = "OneByOne"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def solve(self, system, params, *, init=None, key=None) -> Equilibrium:
        inputs, found = system.inputs.tolist(), self.exact.solve(system, params, init=init)
        self.starts.append((inputs, None if init is None else init.stats["inputs"]))
        status = qp.Status.UNCONVERGED if inputs[:1] == [self.fails] else found.status
        return replaced(found, stats={"inputs": inputs}, status=status)

    def respond(self, system, params, equilibrium, term, *, tolerance):
        raise NotImplementedError

    def default_scheme(self, free, term):
        return qp.centered(1e-3)

    def extrapolate(self, phases, strength):
        return phases[0.0]

    def accepts_batch(self, system):
        return False
