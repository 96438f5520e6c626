r"""Explicit time steps of an energy system: the gradient flow ds/dt = -d(E + sum_j beta_j C_j)/ds, compiled by JAX.

Two ways to advance by dt: the Euler step s - dt d(E + beta C)/ds, which is the motion of a network in discrete time with
the primitive function Phi = |s|^2/2 - dt (E + beta C); and the classical Runge-Kutta step of fourth order, for motions
in continuous time.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core.module import AbstractModule
from ..core.nudge import AbstractNudge
from ..core.precision import jax_float64
from ..core.system import Params
from .clamped_systems import ClampedPotential
from .derivatives import Potential
from .energy import AbstractPotentialSystem, Nudge
from .state_cost import StateCost, StateFunction, StateTerm

Reader = tuple[StateFunction, tuple[int, ...] | None]
"""A cost, and the nodes that it reads (None: all)."""
Pull = tuple[float, np.ndarray | None]
"""The strength of a cost, and its target."""
EULER, RUNGE_KUTTA = 2.0, 2.785
"""dt times the largest curvature above which the steps blow up."""


class Scene(NamedTuple):
    """What acts on the coordinates besides the potential.

    Attributes:
        inputs: of one sample, or with a batch axis in front; None where there are none.
        pulls: one for every cost of the motion; targets with a batch axis where `inputs` has one.
        mobile: 1 for free coordinates, 0 for held ones.
        low, high: bounds of the coordinates.
    """

    inputs: Any
    pulls: tuple[Pull, ...]
    mobile: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def pulled(self, strength: Any) -> "Scene":
        """The last cost with another strength."""
        return self._replace(pulls=(*self.pulls[:-1], (strength, self.pulls[-1][1])))

    def lifted(self) -> "Scene":
        """One sample as a batch of one."""
        pulls = tuple((beta, None if target is None else np.asarray(target)[None]) for beta, target in self.pulls)
        return self._replace(inputs=None if self.inputs is None else self.inputs[None], pulls=pulls)

    @property
    def axes(self) -> "Scene":
        """Where a batch has its axis, for `jax.vmap`."""
        pulls = tuple((None, None if target is None else 0) for _, target in self.pulls)
        return Scene(None if self.inputs is None else 0, pulls, *[None] * 3)  # type: ignore[arg-type]


class Motion(AbstractModule):
    """The motion of one sample. Functions take (params, position, scene).

    Attributes:
        slope: d(E + sum beta C)/ds, 0 for coordinates that are held.
        forces: dE/dtheta.
        euler: the position after an Euler step of length dt, the fourth argument.
        settle: of a batch, after so many Euler steps of length dt, the fourth and fifth arguments: positions, energies with
            nudges, and the norms of the slopes before the first step and after the last (compiled).
        walk, flow: all positions of so many Euler or Runge-Kutta steps, the first one included (compiled).
    """

    slope: Callable[..., Any]
    forces: Callable[..., Any]
    euler: Callable[..., Any]
    settle: Callable[..., Any]
    walk: Callable[..., Any]
    flow: Callable[..., Any]


@functools.lru_cache(maxsize=64)
def motion(potential: Potential, costs: tuple[Reader, ...]) -> Motion:
    """The motion in a potential, nudged by these costs."""
    jax = jax_float64()
    jnp = jax.numpy

    def energy(params: Any, position: Any, scene: Scene) -> Any:
        total = potential(params, position, scene.inputs)
        for read, (beta, target) in zip(costs, scene.pulls, strict=True):
            total += beta * cost_at(read, position, target)
        return total

    by_position, by_params = jax.grad(energy, argnums=1), jax.grad(potential)

    def slope(params: Any, position: Any, scene: Scene) -> Any:
        return scene.mobile * by_position(params, position, scene)

    def euler(params: Any, position: Any, scene: Scene, dt: Any) -> Any:
        return jnp.clip(position - dt * slope(params, position, scene), scene.low, scene.high)

    def runge_kutta(params: Any, position: Any, scene: Scene, dt: Any) -> Any:
        return runge_kutta_step(lambda s: -slope(params, s, scene), position, dt)

    def force(params: Any, position: Any, scene: Scene) -> Any:
        return jnp.linalg.norm(position - euler(params, position, scene, 1.0))  # a bound takes what pushes against it

    def settle(params: Any, positions: Any, scene: Scene, dt: Any, steps: Any) -> Any:
        def one(start: Any, scene: Scene) -> Any:
            last = jax.lax.fori_loop(0, steps, lambda _, s: euler(params, s, scene, dt), start)
            return last, energy(params, last, scene), force(params, start, scene), force(params, last, scene)

        return jax.vmap(one, in_axes=(0, scene.axes))(positions, scene)

    return Motion(
        slope,
        lambda params, position, scene: by_params(params, position, scene.inputs),
        euler,
        jax.jit(settle),
        *(jax.jit(_path(advance), static_argnums=4) for advance in (euler, runge_kutta)),
    )


def _path(advance: Callable[..., Any]) -> Callable[..., Any]:
    jax = jax_float64()

    def path(params: Any, position: Any, scene: Scene, dt: Any, steps: int) -> Any:
        last, before = jax.lax.scan(lambda s, _: (advance(params, s, scene, dt), s), position, None, length=steps)
        return jax.numpy.concatenate([before, last[None]])

    return path


def runge_kutta_step(velocity: Callable[[Any], Any], at: Any, dt: Any) -> Any:
    """One classical Runge-Kutta step of d(at)/dt = velocity(at), of any tree of arrays."""
    jax = jax_float64()

    def moved(along: Any, by: Any) -> Any:
        return jax.tree.map(lambda x, v: x + by * v, at, along)

    first = velocity(at)
    second = velocity(moved(first, dt / 2))
    third = velocity(moved(second, dt / 2))
    fourth = velocity(moved(third, dt))
    return moved(jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth), dt)


def reader(term: StateTerm) -> Reader:
    """What a nudge reads."""
    return term.cost, term.coordinates.nodes


def cost_at(read: Reader, position: Any, target: Any) -> Any:
    """A cost at a position."""
    cost, nodes = read
    return cost(position if nodes is None else position[np.asarray(nodes, int)], target)


def motion_of(system: AbstractPotentialSystem, *more: Nudge) -> tuple[Motion, Scene]:
    """The motion of a system under its nudges, and under some more; and what acts on it.

    Raises:
        TypeError: some of its nodes are held by a `Clamp`.
    """
    if isinstance(system, ClampedPotential):
        raise TypeError(
            "A network whose nodes a `Clamp` holds has no time steps here: use a `StateCost`, or `Minimizer`."
        )
    nudges = (*system.nudges, *more)
    pulls = tuple((beta, term.target) for term, beta in nudges)
    bounds = system.domain.bounds(system.state_shape)
    scene = Scene(system.inputs, pulls, (system.free_places() >= 0).astype(float), *bounds)
    return motion(system.potential, tuple(reader(term) for term, _ in nudges)), scene


def check_moving(system: Any, nudge: AbstractNudge, purpose: str) -> tuple[AbstractPotentialSystem, StateCost]:
    """The same system and cost; what has no time steps is refused."""
    if not isinstance(system, AbstractPotentialSystem):
        raise TypeError(
            f"{purpose} needs a potential written in JAX, e.g. an `EnergySystem`, but is given a {type(system).__name__}."
        )
    if not isinstance(nudge, StateCost):
        raise TypeError(f"{purpose} needs a `StateCost`, but the nudge is a {type(nudge).__name__}.")
    return system, nudge


def check_stability(
    system: AbstractPotentialSystem, params: Params, position: np.ndarray, dt: float, limit: float
) -> None:
    """Refuse steps that would blow up at the minimum `position`: dt lambda_max must stay below `limit`."""
    stiffest = float(np.linalg.eigvalsh(system.curvature(params, position))[-1])
    if dt * stiffest >= limit:
        raise ValueError(
            f"Argument `dt` must be below {limit / stiffest:.4g}, but is {dt:g}: the largest curvature at the free state is "
            f"{stiffest:.4g}, and longer steps blow up."
        )
