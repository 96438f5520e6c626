r"""The response of a positive wave function, estimated from samples with next to no variance.

Let psi > 0 be the ground state of H' = H - (E_loc - E), with <s|H|s^m> = -g_m(s) <= 0 along the flips m and the ratios
r_m = psi(s^m)/psi(s). On functions u(s) acts the generator

.. math:: (L u)(s) = \sum_m g_m(s)\, r_m(s)\, [u(s) - u(s^m)] , \qquad E[L u] = 0 , \qquad
    E[v\, L u] = \tfrac12\, E \sum_m g_m \frac{2 r_m}{1 + r_m^2} (D_m u)(D_m v) , \quad D_m u = u(s) - u(s^m) .

The response of psi to an operator Q is -u_Q psi with L u_Q = Q_loc - <Q>, so d<C>/dtheta = -2 E[u_C L u_O], O = dH/dtheta.
u_Q is sought in the tangent space of the ansatz, u = J x with J = grad log psi, by least squares of Q_loc on B = L J.
Where the fit is good Q_loc - B x hardly varies (zero variance), and the errors of the two fits enter the gradient only as
their product (doubly robust):

.. math:: \frac{d\langle C\rangle}{d\theta} = - E\left[ 2 u\, O + 2 v\, C - 2 (u\, L v + v\, L u) + \Gamma(u, v) \right] ,
    \qquad \Gamma(u, v) = \sum_m g_m \frac{2 r_m}{1 + r_m^2} (D_m u)(D_m v)

with centred O and C, evaluated on samples that the fits have not seen.

References: R. Assaraf, M. Caffarel, Phys. Rev. Lett. 83, 4682 (1999), zero variance; V. Chernozhukov et al.,
Econometrics J. 21, C1 (2018), cross-fitted doubly robust estimates.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx

from ..core.module import AbstractModule
from ..core.precision import jax_float64
from .vmc_devices import sample_map
from .vmc_operator import SpinOperator


class Ansatz(AbstractModule):
    """A wave function, its Hamiltonian, and the observables to be estimated.

    Attributes:
        log_psi: `log_psi(variables, sigma (..., n_sites)) -> (...)`, real; differentiated by `variables["params"]`.
        variables: its variables.
        table: the strings of the Hamiltonian and of all observables.
        hamiltonian: the Hamiltonian's coefficients of these strings, (S,).
        observables: the same of Q observables, (Q, S).
        chunk: number of configurations treated at a time.
    """

    log_psi: Callable[[Any, Any], Any] = eqx.field(static=True)
    variables: Any
    table: SpinOperator
    hamiltonian: Any
    observables: Any
    chunk: int = eqx.field(static=True)


class Features(NamedTuple):
    """Values on N configurations.

    Attributes:
        gradients: J = grad log psi, (N, P).
        generated: B = L J, (N, P).
        values: local values of the Q observables and, last, of the energy, (N, Q + 1).
        least_rate: smallest g_m r_m, (N,); negative where H is not stoquastic.
    """

    gradients: Any
    generated: Any
    values: Any
    least_rate: Any


class Fit(NamedTuple):
    """A factorised least-squares problem with the design B: in the samples where they are fewer than the parameters."""

    design: Any
    factor: Any
    root_weights: Any


class Sampled(NamedTuple):
    """What N configurations say about the responses of K forces to one cost.

    Attributes:
        response: (N, K): the mean estimates d<C>/dtheta.
        plain: (N, K): the same without control variates, -2 (C - <C>) v.
        third_order: (K,): what E_loc - E does to the response, to first order.
    """

    response: Any
    plain: Any
    third_order: Any


class _Local(NamedTuple):
    """One configuration: log psi here and behind every flip as a function of the flat parameters, and what follows."""

    log_psi: Callable[[Any], Any]
    flat: Any
    ratios: Any
    hopping: Any


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` at the first call: importing this module does not touch JAX's settings."""

    @functools.cache
    def jitted() -> Callable[..., Any]:
        return jax_float64().jit(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return jitted()(*args)

    return call


def _local(ansatz: Ansatz, s: Any) -> _Local:
    jnp = jax_float64().numpy
    from jax.flatten_util import ravel_pytree

    flat, unravel = ravel_pytree(ansatz.variables["params"])
    reached = jnp.concatenate([s[None], ansatz.table.connected(s)])

    def log_psi(vector: Any) -> Any:
        return ansatz.log_psi({**ansatz.variables, "params": unravel(vector)}, reached)

    logs = log_psi(flat)
    return _Local(log_psi, flat, jnp.exp(logs[1:] - logs[0]), -ansatz.table.matrix_elements(ansatz.hamiltonian, s))


@compiled
def features(ansatz: Ansatz, sigma: Any) -> Features:
    """J, B and the local values on configurations (N, n_sites): two backward passes for each."""
    jax = jax_float64()
    jnp = jax.numpy

    def single(s: Any) -> Features:
        here = _local(ansatz, s)
        rates = here.hopping * here.ratios

        def gradient_and_generated(vector: Any) -> Any:
            logs = here.log_psi(vector)
            return jnp.stack([logs[0], rates @ (logs[0] - logs[1:])])

        gradient, generated = jax.jacrev(gradient_and_generated)(here.flat)
        strings = ansatz.table.local_strings(here.ratios, s)
        values = jnp.append(ansatz.observables @ strings, ansatz.hamiltonian @ strings)
        return Features(gradient, generated, values, jnp.min(rates, initial=0.0))

    return sample_map(single, sigma, ansatz.chunk)


@compiled
def factorise(feats: Features, weights: Any, ridge: float) -> Fit:
    """min_x sum_s w_s (Q_loc - <Q> - B x)^2 + lambda x^2, ready for any number of right-hand sides.

    lambda is `ridge` times the mean of the eigenvalues of the Gram matrix that do not vanish for lack of samples.
    """
    jax = jax_float64()
    jnp = jax.numpy
    root = jnp.sqrt(weights)[:, None]
    design = root * (feats.generated - weights @ feats.generated)
    samples, parameters = design.shape
    gram = design @ design.T if samples < parameters else design.T @ design
    shift = ridge * jnp.trace(gram) / len(gram) + jnp.finfo(float).tiny
    return Fit(design, jax.scipy.linalg.cholesky(gram + shift * jnp.eye(len(gram)), lower=True), root)


@compiled
def coefficients(fit: Fit, targets: Any) -> Any:
    """x (P, K) of the fits of K targets (N, K), centred here."""
    jax = jax_float64()
    solve = functools.partial(jax.scipy.linalg.cho_solve, (fit.factor, True))
    rhs = fit.root_weights * (targets - (fit.root_weights[:, 0] ** 2) @ targets)
    samples, parameters = fit.design.shape
    return fit.design.T @ solve(rhs) if samples < parameters else solve(fit.design.T @ rhs)


@compiled
def evaluate(
    ansatz: Ansatz, sigma: Any, feats: Features, weights: Any, x_forces: Any, cost: Any, x: Any, shifted: Any
) -> Sampled:
    """The doubly robust estimate on configurations (N, n_sites) with fits from elsewhere.

    Args:
        ansatz: its first K observables are the forces.
        sigma, feats, weights: configurations, their features and normalised weights.
        x_forces: fits of the forces, (P, K).
        cost: index of the cost among the observables.
        x: fits of the cost and of the energy, (2, P).
        shifted: `shift_along` of the fit of the energy.
    """
    jax = jax_float64()
    jnp = jax.numpy
    n_forces = x_forces.shape[1]
    gamma = _gamma(ansatz, sigma, x[0])
    centred = feats.values - weights @ feats.values
    gradients = feats.gradients - weights @ feats.gradients
    forces, costs, energies = centred[:, :n_forces], centred[:, cost], centred[:, -1]
    (u, w), (generated_u, generated_w) = (gradients @ x.T).T, (feats.generated @ x.T).T
    v = gradients @ x_forces
    mixed = 2 * (costs - generated_u)[:, None] * gradients - 2 * u[:, None] * feats.generated + gamma
    # The energy is hardly a response (E[J (E_loc - E)] = 0 at the optimum), so its fit is mostly noise: the part of it
    # that these samples confirm.
    spread = weights @ (generated_w - weights @ generated_w) ** 2
    confirmed = jnp.maximum(weights @ (generated_w * energies) / jnp.maximum(spread, 1e-300), 0.0)
    perturbed = confirmed * (centred[:, :-1] * w[:, None] + shifted)
    third = (weights * (u * energies + perturbed[:, cost])) @ v + (weights * u) @ perturbed[:, :n_forces]
    return Sampled(-(2 * u[:, None] * forces + mixed @ x_forces), -2 * costs[:, None] * v, 2 * third)


@compiled
def shift_along(ansatz: Ansatz, sigma: Any, x: Any) -> Any:
    """sum_m <s|Q|s^m> r_m (w(s^m) - w(s)) (N, Q) of all observables, w = J x: how local values change with log psi."""
    jax = jax_float64()

    def single(s: Any) -> Any:
        here = _local(ansatz, s)
        w = jax.jvp(here.log_psi, (here.flat,), (x,))[1]
        strings = ansatz.table.local_strings(here.ratios * (w[1:] - w[0]), s)
        return ansatz.observables @ (strings - ansatz.table.local_strings(0.0 * here.ratios, s))

    return sample_map(single, sigma, ansatz.chunk)


def _gamma(ansatz: Ansatz, sigma: Any, x: Any) -> Any:
    """Gamma(u, J) (N, P), u = J x."""
    jax = jax_float64()

    def single(s: Any) -> Any:
        here = _local(ansatz, s)
        bounded = here.hopping * 2 * here.ratios / (1 + here.ratios**2)
        u = jax.jvp(here.log_psi, (here.flat,), (x,))[1]
        steps = bounded * (u[0] - u[1:])

        def gamma(vector: Any) -> Any:
            logs = here.log_psi(vector)
            return steps @ (logs[0] - logs[1:])

        return jax.grad(gamma)(here.flat)

    return sample_map(single, sigma, ansatz.chunk)
