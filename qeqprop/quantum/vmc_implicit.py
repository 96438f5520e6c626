r"""The response of a full sum: implicit differentiation of the stationary energy of the ansatz.

Where E(x; theta) is stationary in the variables x, the variational loss <C> has the exact derivative

.. math:: \frac{d\langle C\rangle}{d\theta_k} = -\, \nabla\langle O_k\rangle \cdot (\nabla^2 E)^{+}\, \nabla\langle C\rangle ,
    \qquad O_k = \partial H/\partial\theta_k ,

however poor the ansatz is: the limit of equilibrium propagation with the same state.
"""

from typing import Any, NamedTuple

import numpy as np

from .vmc_energy import Hamiltonian
from .vmc_newton import energy_surface
from .zero_variance import Ansatz, features

FLAT = 1e-12
"""Curvatures below this share of the largest belong to redundant variables, which move no state."""


class Implicit(NamedTuple):
    """Derivatives of <C> (K,), the relative residual of the linear equation, the energy and the norm of its gradient."""

    grad: np.ndarray
    residual: float
    energy: float
    energy_gradient: float


def implicit_response(vstate: Any, ansatz: Ansatz, sigma: Any, weights: np.ndarray) -> Implicit:
    """The response of a NetKet `FullSumState`.

    Args:
        vstate: the state, at a stationary point of its energy.
        ansatz: the same with its Hamiltonian; its observables are K forces and, last, the cost.
        sigma, weights: all configurations (2^n, n_sites) and their probabilities.
    """
    from jax.flatten_util import ravel_pytree

    feats = features(ansatz, sigma)
    jacobian, values = np.asarray(feats.gradients), np.asarray(feats.values)[:, :-1]
    slopes = 2 * (jacobian - weights @ jacobian).T @ (weights[:, None] * values)
    h = Hamiltonian(ansatz.table, ansatz.hamiltonian, 0.0)
    theta, _ = ravel_pytree(ansatz.variables["params"])
    energy, gradient, hessian = energy_surface(vstate, h)(theta)
    curvatures, modes = np.linalg.eigh(np.asarray(hessian))
    stiff = curvatures > FLAT * curvatures[-1]
    cost = slopes[:, -1]
    moved = -modes[:, stiff] @ ((modes[:, stiff].T @ cost) / curvatures[stiff])
    left = np.linalg.norm(np.asarray(hessian) @ moved + cost) / max(float(np.linalg.norm(cost)), 1e-300)
    return Implicit(slopes[:, :-1].T @ moved, float(left), float(energy), float(np.linalg.norm(gradient)))
