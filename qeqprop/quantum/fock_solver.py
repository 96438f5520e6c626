"""Solving a `FockSpace` with an exact solver of matrices, and watching the edge of its basis."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from ..core.real import check_fraction
from ..core.scheme import LinearResponse, Stencil
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params, replaced
from .fock import FockSpace
from .fock_basis import FockBasis, as_matrix, edge_projectors
from .operators import MatrixOperator
from .quadratic import Quadratic


class FockState(AbstractModule):
    """A state of a `FockSpace`: measured by polynomials in positions and momenta, or by matrices.

    Attributes:
        basis: the truncated basis.
        state: the `PureState` or `ThermalState` in that basis.
    """

    basis: FockBasis = eqx.field(static=True)
    state: Any

    _repr_html_ = display.of_state

    def expect(self, observable: Quadratic | MatrixOperator) -> Estimate:
        """<O>, exact within the truncated space."""
        return self.state.expect(as_matrix(self.basis, observable))

    def expect_all(self, observables: Sequence[Quadratic | MatrixOperator]) -> Estimate:
        """Expectation values of K observables, shape (K,)."""
        return self.state.expect_all([as_matrix(self.basis, o) for o in observables])

    def edge_populations(self) -> np.ndarray:
        """Population of the two highest levels of every oscillator, shape (n_sites * components,)."""
        return np.asarray(self.state.expect_all(edge_projectors(self.basis)).mean)

    def __repr__(self) -> str:
        return f"FockState({self.basis!r}, {self.state!r})"


class FockSolver(AbstractSolver):
    """Solves a `FockSpace` with an exact solver of matrices, and refuses states that reach the edge of the basis.

    The two highest levels of every oscillator are watched: the largest of their populations is
    `stats["edge_population"]`, and above `max_population` the status is `BASIS_TOO_SMALL`.

    Args:
        solver: None takes `ExactDiagonalization()`; or `GibbsState(temperature)`.
        max_population: the largest population allowed. Harmonic pairs had errors of twice it in energies, of 10 times it
            in costs and 25 to 650 times it in gradients.

    Example:
        >>> import qeqprop as qp
        >>> one = qp.HarmonicNetwork(1, [], trainable=("kappa",))
        >>> solver = qp.quantum.FockSolver(qp.GibbsState(0.5))
        >>> warm = qp.equilibrate(qp.quantum.FockSpace(one, levels=24), {"kappa": [1.0]}, solver=solver)
        >>> warm.state.expect(qp.R(0) ** 2)  # coth(1)/2
        0.656518
    """

    solver: AbstractSolver
    max_population: float = eqx.field(static=True)

    name: ClassVar[str] = "FockSolver"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, solver: AbstractSolver | None = None, *, max_population: float = 1e-8):
        from .exact import ExactDiagonalization

        self.solver = ExactDiagonalization() if solver is None else solver
        if not isinstance(self.solver, AbstractSolver) or self.solver.stochastic or not self.solver.responds:
            raise TypeError(f"Argument `solver` must be an exact solver of operator systems, but is {solver!r}.")
        self.max_population = check_fraction(max_population, "max_population")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The equilibrium in the truncated basis; `key` is not used."""
        if not isinstance(system, FockSpace):
            raise wrong_system(system, "FockSolver", "a FockSpace")
        start = None if init is None else _bare(init)
        found = self.solver.solve(system.operator_system(), system.coefficients(params), init=start)
        state = FockState(system.basis, found.state)
        edge = float(state.edge_populations().max())
        status = Status.BASIS_TOO_SMALL if edge > self.max_population else Status.OK
        return replaced(
            found, state=state, status=max(found.status, status), stats=found.stats | {"edge_population": edge}
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The inner solver's response of the terms, by the chain rule that of the parameters."""
        assert isinstance(system, FockSpace)  # `solve` has refused the others
        found = self.solver.respond(
            system.operator_system(),
            system.coefficients(params),
            _bare(equilibrium),
            system.matrix_term(term),
            tolerance=tolerance,
        )
        return replaced(found, grad=Estimate.exact(system.chain(params, found.grad.mean)))

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """Linear response: the norm of a cost in a truncated space tells of the truncation, not of a good nudge."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The inner solver's start."""
        return self.solver.extrapolate({b: _bare(phase) for b, phase in phases.items()}, strength)

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def __repr__(self) -> str:
        return f"FockSolver({self.solver!r}, max_population={self.max_population:g})"


def _bare(equilibrium: Equilibrium) -> Equilibrium:
    """The equilibrium as the inner solver knows it."""
    state = equilibrium.state
    return replaced(equilibrium, state=state.state) if isinstance(state, FockState) else equilibrium
