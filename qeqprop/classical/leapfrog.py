"""The leapfrog of separable Hamiltonians, forwards and back again, compiled by JAX."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.module import AbstractModule
from ..core.precision import jax_float64


class Way(NamedTuple):
    """Positions q_k at the points (steps + 1, size), and momenta p_{k+1/2} between them (steps, size)."""

    position: Any
    momentum: Any


class Leapfrog(AbstractModule):
    """The motion under one Hamiltonian; drives and kicks are given at the points, shapes (steps + 1, ...).

    Attributes:
        run: (params, start (2, size), drives, kicks, dt) -> the way and its last momentum; a kick is what is taken
            off the momentum at a point, beside the force.
        energy: (params, way, drives, dt) -> minus the action,
            sum_k h_k V(q_k) + sum_k [dt T(p_{k+1/2}) - p_{k+1/2} (q_{k+1} - q_k)].
        forces: its derivative by the parameters.
        responds: (params, way, last momentum, drives, kicks per unit of nudge, dt) -> the derivative of
            `forces` by the nudge of the echo.
    """

    run: Callable[..., Any]
    energy: Callable[..., Any]
    forces: Callable[..., Any]
    responds: Callable[..., Any]


@functools.lru_cache(maxsize=64)
def leapfrog(potential: Callable[[Any, Any, Any], Any], kinetic: Callable[[Any, Any], Any]) -> Leapfrog:
    """The leapfrog of H = kinetic(params, p) + potential(params, q, drive)."""
    jax = jax_float64()
    jnp = jax.numpy
    slope, velocity = jax.grad(potential, argnums=1), jax.grad(kinetic, argnums=1)

    def run(params: Any, start: Any, drives: Any, kicks: Any, dt: Any) -> Any:
        def step(at: Any, acting: Any) -> Any:
            position, momentum = at
            (drive, kick), (next_drive, _) = acting
            middle = momentum - kick - dt / 2 * slope(params, position, drive)
            moved = position + dt * velocity(params, middle)
            return (moved, middle - dt / 2 * slope(params, moved, next_drive)), (moved, middle)

        acting = (drives, kicks)
        before, after = (jax.tree.map(lambda x, part=part: x[part], acting) for part in (slice(-1), slice(1, None)))
        (_, momentum), (positions, middles) = jax.lax.scan(step, (start[0], start[1]), (before, after))
        return Way(jnp.concatenate([start[:1], positions]), middles), momentum - kicks[-1]

    def energy(params: Any, way: Way, drives: Any, dt: Any) -> Any:
        in_axes = (None, 0, None if drives is None else 0)
        heights = jax.vmap(potential, in_axes)(params, way.position, drives)
        moving = jax.vmap(kinetic, (None, 0))(params, way.momentum)
        carried = jnp.sum(way.momentum * jnp.diff(way.position, axis=0))
        return dt * (heights.sum() - (heights[0] + heights[-1]) / 2 + moving.sum()) - carried

    forces = jax.grad(energy)

    def responds(params: Any, way: Way, last: Any, drives: Any, kicks: Any, dt: Any) -> Any:
        def nudged(beta: Any) -> Any:
            back, _ = run(params, jnp.stack([way.position[-1], -last]), _reversed(drives), beta * kicks[::-1], dt)
            return forces(params, Way(back.position[::-1], -back.momentum[::-1]), drives, dt)

        return jax.jvp(nudged, (0.0,), (1.0,))[1]

    return Leapfrog(*map(jax.jit, (run, energy, forces, responds)))


def _reversed(drives: Any) -> Any:
    return None if drives is None else drives[::-1]
