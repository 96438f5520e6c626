r"""Full sums: the exact energy of an ansatz, minimised by Newton steps until its gradient vanishes.

Equilibrium propagation is the exact gradient of the *variational* loss wherever the energy is stationary in the
variables, however poor the ansatz. So a full sum, which has no noise to hide behind, is relaxed to the last digits:

.. math:: \delta = -(|\nabla^2 E| + \mu)^{-1} \nabla E ,

|A| the matrix with the absolute eigenvalues: the steps leave saddle points instead of approaching them. mu falls with
every step that does what the quadratic model says.

Where the energy falls by no more than its rounding, the fall is read off the slopes at both ends of the step. A norm of
the gradient that must fall instead would creep: in a curved valley every useful step raises it.

References: Y. Dauphin et al., NeurIPS 27, 2933 (2014), saddle-free Newton; H. B. Nielsen, report IMM-REP-1999-05 (1999),
the rule for mu; W. W. Hager, H. Zhang, SIAM J. Optim. 16, 170 (2005), slopes in the place of energies.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core.precision import jax_float64
from .vmc_energy import Hamiltonian

FIRST_SHIFT, LEAST_SHIFT, LARGEST_SHIFT = 1e-2, 1e-12, 1e6
"""mu, relative to the largest curvature."""
ROUNDING = 1e-11
"""Falls of the energy below this share of it are taken from the slopes at both ends of a step."""
COLUMNS_AT_A_TIME = 16


class Polish(NamedTuple):
    """Newton steps taken, and the norm of the energy gradient that was left."""

    steps: int
    gradient: float


def polish(vstate: Any, h: Hamiltonian, *, tolerance: float = 1e-10, max_steps: int = 2000) -> Polish:
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
    energy, gradient, curvature = map(np.asarray, evaluate(theta))
    modes = np.linalg.eigh(curvature) if np.all(np.isfinite(curvature)) else None
    shift, growth, steps = FIRST_SHIFT, 2.0, 0
    goal = tolerance * max(1.0, abs(float(energy)))
    while modes is not None and float(np.linalg.norm(gradient)) > goal and steps < max_steps and shift < LARGEST_SHIFT:
        steps += 1
        values, vectors = modes
        step = vectors @ ((vectors.T @ gradient) / (np.abs(values) + shift * np.abs(values).max()))
        trial = tuple(map(np.asarray, evaluate(theta - step)))
        falls, foretold = float(energy - trial[0]), float(gradient @ step - step @ curvature @ step / 2)
        if abs(foretold) < ROUNDING * max(1.0, abs(float(energy))):
            falls = float((gradient + trial[1]) @ step) / 2  # differences of energies are rounding, slopes are not
        if falls > 0:
            kept = min(falls / foretold, 1.0)
            shift, growth = max(shift * max(1 / 3, 1 - (2 * kept - 1) ** 3), LEAST_SHIFT), 2.0
            theta = theta - step
            energy, gradient, curvature = trial
            modes = np.linalg.eigh(curvature)
        else:
            shift, growth = growth * shift, 2 * growth
    vstate.variables = {**variables, "params": unravel(jax.numpy.asarray(theta))}
    return Polish(steps, float(np.linalg.norm(gradient)))


def energy_surface(vstate: Any, h: Hamiltonian) -> Callable[[Any], tuple[Any, Any, Any]]:
    """Flat parameters -> E, its gradient and its Hessian by them, by full sums."""
    sigma = vstate.hilbert.all_states()
    neighbours = vstate.hilbert.states_to_numbers(h.table.connected(sigma))
    return functools.partial(_compiled(), vstate._apply_fun, vstate.variables, h, sigma, neighbours)


@functools.cache
def _compiled() -> Any:
    jax = jax_float64()
    return jax.jit(_derivatives, static_argnums=0)


def _derivatives(log_psi: Any, variables: Any, h: Hamiltonian, sigma: Any, neighbours: Any, theta: Any) -> Any:
    """E, its gradient and Hessian by theta."""
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
    return value, gradient, (columns + columns.T) / 2
