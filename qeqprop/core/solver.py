"""A solver answers: where is the (nudged) equilibrium, and how well is it known?"""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from . import display
from .estimate import Estimate
from .module import AbstractModule
from .randomness import seed_sequence
from .status import EquilibriumError, Status
from .system import AbstractSystem, Params
from .used import note
from .written import called

if TYPE_CHECKING:
    from .scheme import AbstractScheme


class Equilibrium(AbstractModule):
    """A stationary state and what is known about it. Of a batched system every entry has the batch axis first.

    Attributes:
        state: the state; `.expect(observable)` gives an `Estimate`.
        energy: the value of the functional that the equilibrium minimises, nudges included: the energy, at a
            temperature the free energy E - T*S. Its derivative by a nudge is the cost, and by a parameter the force.
        residual: norm of the violated stationarity condition (for a ground state ||H psi - E psi||).
        gap: distance to the first excited level that a nudge can reach, or None where it was not computed.
        status: the worst status of the batch.
        stats: what the solver reports besides (iterations, energy variance, seconds, ...).
    """

    state: Any
    energy: Estimate
    residual: np.ndarray
    gap: np.ndarray | None
    status: Status
    stats: dict[str, Any]

    _repr_html_ = display.of_equilibrium

    def __repr__(self) -> str:
        def brief(value: ArrayLike | None) -> str:
            if value is None:
                return "not computed"
            array = np.asarray(value)
            return f"{float(array):.8g}" if array.ndim == 0 else f"{array.min():.6g} .. {array.max():.6g}"

        def shown(value: object) -> str:
            return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)

        rows = [
            ("energy", repr(self.energy) if np.ndim(self.energy.mean) == 0 else brief(self.energy.mean)),
            ("gap", brief(self.gap)),
            ("residual", brief(self.residual)),
            ("status", str(self.status)),
            *((name, shown(value)) for name, value in self.stats.items() if np.ndim(value) == 0),
        ]
        return "Equilibrium\n" + "\n".join(f"  {name:<16} {value}" for name, value in rows)

    def worst(self) -> tuple[float, float | None]:
        """Largest residual and smallest gap of the batch."""
        gap = None if self.gap is None or np.all(np.isnan(self.gap)) else float(np.nanmin(self.gap))
        return float(np.max(self.residual)), gap


class Response(AbstractModule):
    """Derivative of the forces by the nudge at beta = 0.

    Attributes:
        grad: an `Estimate` of trees like the parameters.
        residual: relative residual of the equation that was solved.
        status: the worst that was met.
        stats: what else there is to say.
        truncation: tree like the parameters: estimated systematic error of an approximate state, such as the next order of
            perturbation theory; None: the limit is exact.
    """

    grad: Estimate
    residual: np.ndarray
    status: Status
    stats: dict[str, Any]
    truncation: dict[str, np.ndarray] | None = None


class AbstractSolver(AbstractModule):
    """Finds equilibria. Capabilities are class attributes, checked before any work."""

    name: eqx.AbstractClassVar[str]
    analytic: eqx.AbstractClassVar[bool]
    """Can follow the equilibrium to complex nudges (holomorphic EP)."""
    responds: eqx.AbstractClassVar[bool]
    """Can take the limit beta -> 0 itself (`LinearResponse`)."""
    stochastic: eqx.AbstractClassVar[bool]
    """Its equilibria carry statistical errors."""
    carries: ClassVar[bool] = False
    """A training starts each free phase from the last one: what is found does not depend on the start, its cost does."""

    @abc.abstractmethod
    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The equilibrium of `system`, on the branch of `init` where that is given (nudged phases).

        `key` is a `SeedSequence`, another one for every phase, sample and perturbation (None: nothing is random).
        """

    @abc.abstractmethod
    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """d<dE/dtheta>/dbeta at beta = 0 under the nudge beta * `term`."""

    @abc.abstractmethod
    def default_scheme(self, free: Equilibrium, term: Any) -> "AbstractScheme":
        """The scheme used where none is named, given the free equilibrium."""

    @abc.abstractmethod
    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """Where to start a nudged solve, from the phases solved so far (always with the free one, at strength 0)."""

    @abc.abstractmethod
    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Whether a batched `system` can be solved in one call; else the engine goes sample by sample."""


def prepare(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    solver: AbstractSolver | None,
    inputs: ArrayLike | None,
    key: Any = None,
) -> tuple[AbstractSystem, Params, AbstractSolver, np.random.SeedSequence | None]:
    """Check and complete the arguments that every entry function shares; the seed is None where nothing is random."""
    if not isinstance(system, AbstractSystem):
        raise TypeError(f"Argument `system` must be a qeqprop system, but is {called(system)}.")
    checked = system.check_params(params)
    if inputs is not None:
        system = system.with_inputs(inputs)
    solver = system.default_solver() if solver is None else solver
    if not isinstance(solver, AbstractSolver):
        raise TypeError(f"Argument `solver` must be a qeqprop solver, but is {called(solver)}.")
    if key is not None and not solver.stochastic:
        raise ValueError(f"Argument `key` must be None: {solver.name} draws no random numbers.")
    note(system, solver)
    return system, checked, solver, seed_sequence(key) if solver.stochastic else None


def wrong_system(system: Any, solver: str, solves: str) -> TypeError:
    """The error of a solver that does not solve this kind of system, naming one that does.

    Args:
        solver: its name.
        solves: what it solves, in words.
    """
    kind, other = type(system).__name__, ""
    if isinstance(system, AbstractSystem):
        other = f" The default solver of {kind} is {system.default_solver().name} (`solver=None`)."
    return TypeError(f"{solver} solves {solves}, not {kind}.{other}")


def check_init(init: Any) -> None:
    """Raise TypeError for a start that is no equilibrium, such as a bare state."""
    if init is not None and not isinstance(init, Equilibrium):
        raise TypeError(f"Argument `init` must be an Equilibrium or None, but is {type(init).__name__}.")


def check_start(init: Equilibrium | None, kinds: type | tuple[type, ...], solver: str) -> None:
    """Raise TypeError for a start whose state is of another kind of system."""
    if init is not None and not isinstance(init.state, kinds):
        raise TypeError(f"Argument `init` must be an equilibrium of {solver}, but its state is {init.state!r}.")


def samples_of(system: AbstractSystem, solver: AbstractSolver, inputs: ArrayLike | None) -> np.ndarray:
    """The inputs of a batch, batch axis first, for a solver that takes its samples one by one.

    Args:
        inputs: as given; None where the system was driven before (`with_inputs`).
    """
    known = getattr(system, "inputs", None) if inputs is None else inputs
    if known is None:
        raise ValueError(f"Argument `inputs` must be the batch: {solver.name} solves its samples one at a time.")
    return np.asarray(known)


def equilibrate(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    *,
    solver: AbstractSolver | None = None,
    inputs: ArrayLike | None = None,
    init: Equilibrium | None = None,
    key: Any = None,
    throw: bool = True,
) -> Equilibrium:
    """The free equilibrium of a system.

    Args:
        system: the energy functional.
        params: dict of arrays with the names and shapes of `system.param_shapes`.
        solver: None takes `system.default_solver()`.
        inputs: values for the input degrees of freedom, shape `system.input_shape`, or with a batch axis in front.
        init: an equilibrium to start from.
        key: an integer seed, for stochastic solvers only; None draws a fresh one.
        throw: raise `EquilibriumError` where the solve failed; else the status says so.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> ground = qp.equilibrate(net, {"J": [1.0], "h": [0.0, 0.0], "g": [0.5, 0.5]})
        >>> print(f"{float(ground.energy):.6f} {float(ground.gap):.6f}")
        -1.414214 0.414214
    """
    check_init(init)
    system, checked, solver, seed = prepare(system, params, solver, inputs, key)
    if system.batch_size is not None and not solver.accepts_batch(system):
        raise ValueError(
            f"{solver.name} solves this system one sample at a time, but `inputs` has a batch axis of length "
            f"{system.batch_size}: call `equilibrate` once per sample."
        )
    equilibrium = solver.solve(system, checked, init=init, key=seed)
    if throw and equilibrium.status.failed:
        raise EquilibriumError(equilibrium.status, describe(equilibrium))
    return equilibrium


def describe(equilibrium: Equilibrium) -> str:
    """Residual and gap in one sentence, and what the solver knows of the reason (`stats["advice"]`), for error messages."""
    residual, gap = equilibrium.worst()
    advice = f" {equilibrium.stats['advice']}" if "advice" in equilibrium.stats else ""
    return f"residual = {residual:.2g}" + (f", gap = {gap:.3g}." if gap is not None else ".") + advice
