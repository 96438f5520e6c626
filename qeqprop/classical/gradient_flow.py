"""Equilibria by real-time dynamics: the gradient flow of the energy, integrated by diffrax until it is at rest."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.extras import extra_module
from ..core.graph import check_count
from ..core.precision import jax_float64
from ..core.real import check_positive
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.system import AbstractSystem, Params
from .batch_equilibrium import batch_positions, batch_response, equilibrium_at
from .energy import AbstractPotentialSystem
from .landscape import Landscape
from .time_steps import Motion, motion_of


class GradientFlow(AbstractSolver):
    r"""Where a state comes to rest that goes down its energy, nudges included, in real time:

    .. math:: \frac{ds}{dt} = -\frac{\partial}{\partial s} \bigl( E + \textstyle\sum_j \beta_j C_j \bigr) .

    It is what overdamped devices do: phases follow Kuramoto's equation, amplitudes that of Stuart and Landau. A state stays in
    the basin of its start, so that basins are those of the device; `Minimizer` is faster, and leaps between them. The
    integrator is one of diffrax (extra `[dynamics]`), with steps of controlled error; a sample ends where its slope is small.

    `stats`: `time`, the longest that a sample took; `time_steps`, the most; `smallest_curvature` of free states, and of nudged
    ones the `displacement`. A nudged state with a barrier between it and the free one has the status `BRANCH_JUMP`; one that
    runs out of time or steps is `UNCONVERGED`.

    Args:
        method: a diffrax integrator, e.g. `diffrax.Tsit5()`; None takes `diffrax.Kvaerno5()`, which is implicit: steps grow as
            the state comes to rest, whatever the stiffest mode.
        tolerance: bound on the norm of the slope at rest.
        rtol, atol: of the steps.
        max_time: bound on t.
        max_steps: bound on the steps.

    Raises (from `solve`):
        TypeError: the potential is not a JAX function. ValueError: coordinates in a box, whose bounds no smooth flow has.
        ModuleNotFoundError: diffrax is not installed.

    Example:
        >>> import qeqprop as qp
        >>> pair = qp.classical.PhaseOscillators(2, [(0, 1)], frequencies=True)
        >>> locked = qp.equilibrate(pair, {"J": [2.0], "omega": [0.0, 2.0]}, solver=qp.classical.GradientFlow())
        >>> print(locked.state.position.round(6), locked.status)
        [0.       0.523599] ok
    """

    method: Any
    tolerance: float = eqx.field(static=True)
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    max_time: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    name: ClassVar[str] = "GradientFlow"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        method: Any = None,
        *,
        tolerance: float = 1e-10,
        rtol: float = 1e-6,
        atol: float = 1e-9,
        max_time: float = 1e6,
        max_steps: int = 10_000,
    ):
        self.method = method
        self.tolerance, self.rtol = check_positive(tolerance, "tolerance"), check_positive(rtol, "rtol")
        self.atol, self.max_time = check_positive(atol, "atol"), check_positive(max_time, "max_time")
        self.max_steps = check_count(max_steps, "max_steps")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The state at rest, from `init` or from the system's start."""
        if not isinstance(system, AbstractPotentialSystem):
            raise wrong_system(system, "GradientFlow", "potentials written in JAX, e.g. an `EnergySystem`")
        if np.any(np.isfinite(system.domain.bounds(system.state_shape))):
            raise ValueError("GradientFlow has no flow along the bounds of a box: use `Minimizer` or `DiscreteTime`.")
        land = Landscape.of(system, params)
        start = land.coordinates(land.frame if init is None else batch_positions(system, init))
        motion, scene = motion_of(system)
        if land.single:
            scene = scene.lifted()
        ends, times, steps, rest = _flowing(motion, self._integrator(), self.max_steps)(
            params, land.positions(start), scene, (self.rtol, self.atol, self.tolerance, self.max_time)
        )
        stats = {"time": float(np.max(times)), "time_steps": int(np.max(steps))}
        return equilibrium_at(land, start, land.coordinates(np.asarray(ends)), np.asarray(rest), init, stats)

    def _integrator(self) -> Any:
        diffrax = _diffrax()
        if self.method is not None and not isinstance(self.method, diffrax.AbstractSolver):
            raise TypeError(f"Argument `method` must be a diffrax integrator or None, but is {self.method!r}.")
        return diffrax.Kvaerno5() if self.method is None else self.method

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation at the state at rest."""
        assert isinstance(system, AbstractPotentialSystem)  # `solve` has refused the others
        land = Landscape.of(system, params)
        return batch_response(land, land.coordinates(batch_positions(system, equilibrium)), term, tolerance)

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: it is implicit differentiation."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """All samples at once."""
        return True

    def to_storage(self) -> dict[str, Any]:
        """All fields, the integrator by its name in diffrax."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.method is None:
            return own
        name, plain = type(self.method).__name__, None
        with contextlib.suppress(AttributeError, TypeError):  # none of diffrax, or one that needs arguments
            plain = getattr(_diffrax(), name)()
        if plain != self.method:
            raise TypeError(
                f"A GradientFlow cannot be saved with the method {self.method!r}: of integrators only the names are kept, so "
                f"that it must be one of diffrax without settings of its own."
            )
        return own | {"method": name}

    @classmethod
    def from_storage(cls, fields: dict[str, Any]) -> "GradientFlow":
        """The solver again."""
        name, settings = fields["method"], {key: value for key, value in fields.items() if key != "method"}
        if name is None:
            return cls(**settings)
        diffrax = _diffrax()
        kind = getattr(diffrax, name, None)
        if not (isinstance(kind, type) and issubclass(kind, diffrax.AbstractSolver)):
            raise ValueError(f"The integrator {name!r} of a saved GradientFlow is not known to the installed diffrax.")
        return cls(kind(), **settings)

    def __repr__(self) -> str:
        method = "" if self.method is None else f"{type(self.method).__name__}(), "
        return f"GradientFlow({method}tolerance={self.tolerance:g})"


def _diffrax() -> Any:
    return extra_module("diffrax", "GradientFlow", "diffrax", "dynamics")


@functools.lru_cache(maxsize=64)
def _flowing(motion: Motion, method: Any, max_steps: int) -> Callable[..., Any]:
    """The compiled flow: (params, positions, scene, numbers) -> ends, times, steps, and whether they are at rest."""
    import diffrax

    jax = jax_float64()
    jnp = jax.numpy

    def size(params: Any, position: Any, scene: Any) -> Any:
        return jnp.sqrt(jnp.sum(motion.slope(params, position, scene) ** 2))

    def flow(params: Any, positions: Any, scene: Any, numbers: Any) -> Any:
        rtol, atol, tolerance, max_time = numbers

        def one(start: Any, scene: Any) -> Any:
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, s, args: -motion.slope(params, s, scene)),
                method,
                t0=0.0,
                t1=max_time,
                dt0=None,
                y0=start,
                stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
                event=diffrax.Event(lambda t, s, args, **_: size(params, s, scene) <= tolerance),
                max_steps=max_steps,
                throw=False,
            )
            end = solution.ys[-1]
            return end, solution.ts[-1], solution.stats["num_accepted_steps"], size(params, end, scene) <= tolerance

        return jax.vmap(one, in_axes=(0, scene.axes))(positions, scene)

    return jax.jit(flow)  # type: ignore[no-any-return]
