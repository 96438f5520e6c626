"""The derivatives of a potential written in JAX, compiled once: of single states, and of batches of them."""

import functools
from collections.abc import Callable
from typing import Any

from ..core.module import AbstractModule
from ..core.precision import jax_float64

Potential = Callable[[Any, Any, Any], Any]
"""`potential(params, state, inputs) -> scalar`; hashable, so that one compilation serves all systems that are equal."""


class Derivatives(AbstractModule):
    """A potential with its derivatives by state and parameters, functions of (params, state, inputs).

    `curvature_along` and `force_change` take displacements of the state as their fourth argument.
    """

    value: Any
    slope: Any
    curvature: Any
    forces: Any
    curvature_along: Any
    force_change: Any


@functools.lru_cache(maxsize=64)
def derivatives(potential: Potential) -> Derivatives:
    """Of single states; `curvature_along` takes any number of displacements, on a leading axis."""
    jax = jax_float64()
    *local, along, change = _functions(potential)
    return Derivatives(*map(jax.jit, (*local, jax.vmap(along, (None, None, None, 0)), change)))


@functools.lru_cache(maxsize=64)
def batch_derivatives(potential: Potential, driven: bool) -> Derivatives:
    """Of states, and where the system is `driven` of inputs, with a batch axis first; the parameters are shared."""
    jax = jax_float64()
    axes = (None, 0, 0 if driven else None)
    *local, along, change = _functions(potential)
    moving = (jax.vmap(f, (*axes, 0)) for f in (along, change))
    return Derivatives(*map(jax.jit, (*(jax.vmap(f, axes) for f in local), *moving)))


@functools.lru_cache(maxsize=64)
def weighted_forces(potential: Potential) -> Any:
    """The derivative of sum_s weights_s potential(params, s, inputs) by the parameters, of (params, states, inputs, weights):
    one backward pass for a whole block of states."""
    jax = jax_float64()
    of_all = jax.vmap(potential, (None, 0, None))
    return jax.jit(jax.grad(lambda params, states, inputs, weights: weights @ of_all(params, states, inputs)))


def slope_of(function: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """`jax.grad` of a scalar function, that of complex numbers too, where the function is analytic."""
    jax = jax_float64()

    def slope(*arguments: Any) -> Any:
        def along(value: Any) -> Any:
            return function(*arguments[:argument], value, *arguments[argument + 1 :])

        value, back = jax.vjp(along, arguments[argument])
        return back(jax.numpy.ones_like(value))[0]

    return slope


def curvature_of(slope: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """The derivative of a slope by the same argument; its axes stand in front."""
    jax = jax_float64()
    jnp = jax.numpy

    def curvature(*arguments: Any) -> Any:
        at = jnp.asarray(arguments[argument])
        units = jnp.eye(at.size, dtype=at.dtype).reshape(at.size, *at.shape)

        def along(unit: Any) -> Any:
            def moved(value: Any) -> Any:
                return slope(*arguments[:argument], value, *arguments[argument + 1 :])

            return jax.jvp(moved, (at,), (unit,))[1]

        return jax.vmap(along)(units).reshape(*at.shape, *at.shape)

    return curvature


def _functions(potential: Potential) -> tuple[Any, Any, Any, Any, Any, Any]:
    jax = jax_float64()
    slope, by_params_alone = slope_of(potential, 1), slope_of(potential)

    def by_params(params: Any, position: Any, inputs: Any) -> Any:
        # of a real parameter only the real part would be kept
        kind = jax.numpy.result_type(position, float)
        return by_params_alone(jax.tree.map(lambda p: jax.numpy.asarray(p, kind), params), position, inputs)

    def curvature_along(params: Any, position: Any, inputs: Any, step: Any) -> Any:
        return jax.jvp(lambda s: slope(params, s, inputs), (position,), (step,))[1]

    def force_change(params: Any, position: Any, inputs: Any, step: Any) -> Any:
        return jax.jvp(lambda s: by_params(params, s, inputs), (position,), (step,))[1]

    return potential, slope, curvature_of(slope, 1), by_params, curvature_along, force_change
