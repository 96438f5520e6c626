r"""Full sums: the exact energy of an ansatz, minimised by Newton steps until its gradient vanishes.

Equilibrium propagation is the exact gradient of the *variational* loss wherever the energy is stationary in the
variables, however poor the ansatz. So a full sum, which has no noise to hide behind, is relaxed to the last digits:

.. math:: (\nabla^2 E + \mu S)\, \delta = -\nabla E ,

S the metric Cov(d log psi, d log psi), and mu falling with every step that makes the energy fall.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core.precision import jax_float64
from .vmc_energy import Hamiltonian

FIRST_SHIFT, LARGEST_SHIFT = 1e-2, 1e8
COLUMNS_AT_A_TIME = 16


class Polish(NamedTuple):
    """Newton steps taken, and the norm of the energy gradient that was left."""

    steps: int
    gradient: float


def polish(vstate: Any, h: Hamiltonian, *, tolerance: float = 1e-10, max_steps: int = 200) -> Polish:
    """Bring a NetKet `FullSumState` to a stationary point of its energy, in place.

    Args:
        vstate: the state.
        h: the Hamiltonian, in the gauge of the state.
        tolerance: norm of the energy gradient by the variables, relative to max(1, |E|).
        max_steps: bound on the Newton steps.
    """
    jax = jax_float64()
    from jax.flatten_util import ravel_pytree

    variables = vstate.variables
    theta, unravel = ravel_pytree(variables["params"])
    evaluate = energy_surface(vstate, h)
    energy, gradient, hessian, metric = evaluate(theta)
    shift, steps = FIRST_SHIFT, 0
    goal = tolerance * max(1.0, abs(float(energy)))
    while (size := float(np.linalg.norm(gradient))) > goal and steps < max_steps and shift < LARGEST_SHIFT:
        steps += 1
        matrix = hessian + shift * (metric + 1e-3 * np.trace(metric) / len(theta) * np.eye(len(theta)))
        trial = evaluate(theta - jax.numpy.linalg.solve(matrix, gradient))
        falls = float(trial[0] - energy)
        # at the bottom the energy falls by less than its rounding, and the gradient decides
        rounding = 1e-13 * max(1.0, abs(float(energy)))
        if falls < -rounding or (abs(falls) <= rounding and float(np.linalg.norm(trial[1])) < size):
            theta = theta - jax.numpy.linalg.solve(matrix, gradient)
            energy, gradient, hessian, metric = trial
            shift = shift / 10
        else:
            shift = 10 * max(shift, 1e-12)
    vstate.variables = {**variables, "params": unravel(theta)}
    return Polish(steps, float(np.linalg.norm(gradient)))


def energy_surface(vstate: Any, h: Hamiltonian) -> Callable[[Any], tuple[Any, Any, Any, Any]]:
    """Flat parameters -> E, its gradient and its Hessian by them, and the metric, by full sums."""
    sigma = vstate.hilbert.all_states()
    neighbours = vstate.hilbert.states_to_numbers(h.table.connected(sigma))
    return functools.partial(_compiled(), vstate._apply_fun, vstate.variables, h, sigma, neighbours)


@functools.cache
def _compiled() -> Any:
    jax = jax_float64()
    return jax.jit(_derivatives, static_argnums=0)


def _derivatives(log_psi: Any, variables: Any, h: Hamiltonian, sigma: Any, neighbours: Any, theta: Any) -> Any:
    """E, its gradient and Hessian by theta, and the metric."""
    jax = jax_float64()
    jnp = jax.numpy
    from jax.flatten_util import ravel_pytree

    unravel = ravel_pytree(variables["params"])[1]
    diagonal = h.table.diagonal(h.coefficients, sigma)
    elements = h.table.matrix_elements(h.coefficients, sigma)

    def logs(theta: Any) -> Any:
        return log_psi({**variables, "params": unravel(theta)}, sigma)

    def energy(theta: Any) -> Any:
        values = logs(theta)
        psi = jnp.exp(values - jax.lax.stop_gradient(values.max()))
        h_psi = diagonal * psi + jnp.sum(elements * psi[neighbours], axis=-1)
        return psi @ h_psi / (psi @ psi)

    value, gradient = jax.value_and_grad(energy)(theta)
    columns = jax.lax.map(
        lambda direction: jax.jvp(jax.grad(energy), (theta,), (direction,))[1],
        jnp.eye(len(theta)),
        batch_size=COLUMNS_AT_A_TIME,
    )
    jacobian = jax.jacfwd(logs)(theta)
    probabilities = jax.nn.softmax(2 * logs(theta))
    centred = jacobian - probabilities @ jacobian
    return value, gradient, (columns + columns.T) / 2, centred.T @ (probabilities[:, None] * centred)
