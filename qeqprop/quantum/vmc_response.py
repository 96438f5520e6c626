"""Linear response of variational states: gradients, expectation values and susceptibilities with true error bars.

From samples the estimator is that of `zero_variance`; of a full sum it is implicit differentiation (`vmc_implicit`).
"""

from collections.abc import Sequence

import numpy as np

from ..core.estimate import Estimate
from ..core.nudge import WeightedObservables
from ..core.solver import Response
from ..core.status import Status
from ..core.system import Params, replaced
from .pauli import PauliSum
from .spins import AbstractSpinSystem
from .vmc_controls import chunk_size
from .vmc_implicit import implicit_response
from .vmc_state import VariationalState
from .zero_variance import Ansatz
from .zero_variance_crossfit import CrossFit, cross_fit
from .zero_variance_diagnostics import diagnose, judge

ROUNDING = 1e-6
"""Relative residual that ill-conditioned curvatures leave of the equation of a full sum."""
STATIONARY = 1e-7
"""Largest energy gradient of a full sum whose loss is differentiated, relative to max(1, |E|)."""


def respond(
    state: VariationalState, system: AbstractSpinSystem, params: Params, term: WeightedObservables, tolerance: float
) -> Response:
    """d<dH/dtheta>/dbeta at beta = 0 under the nudge beta * `term`, with standard errors from independent blocks.

    Args:
        state: the free variational state of `system` at `params`.
        system: the network.
        params: its parameters.
        term: the nudge: any real Pauli sums, diagonal or not.
        tolerance: largest relative residual of the equation of a full sum. Samples are limited by their fits instead:
            `residual` is then sqrt((1 - R^2 of the cost) (1 - R^2 of the forces)), to which a doubly robust estimate is
            accurate.

    Returns:
        The response. `stats` holds the V-score and energy variance, held-out R^2 of both fits, the zero-variance estimate
        of the cost, R-hat and correlation time of the cost and of the worst component, the agreement with plain linear
        response (1 is perfect: root mean square in standard errors), how many times its variance is that of this response,
        samples per parameter, and `systematic`, the size
        of the ansatz error by third-order perturbation theory (reported, not added). Where one of them is poor the
        status is `INACCURATE` and `advice` says why. `truncation` is the magnitude of `systematic`: 95 % intervals are
        1.96 sqrt(stderr^2 + truncation^2) wide, to both sides.

    Raises:
        ValueError: the state is a nudged one, has too few samples, or its Hamiltonian is not stoquastic.
    """
    return respond_all(state, system, params, [term], tolerance)[0]


def respond_all(
    state: VariationalState,
    system: AbstractSpinSystem,
    params: Params,
    terms: Sequence[WeightedObservables],
    tolerance: float,
) -> list[Response]:
    """The responses to several nudges; they share the features, the factorisation and the fits of the forces."""
    if state.reference is not None:
        raise ValueError("Argument `state` must be a free state, but its samples are those of another one.")
    costs = [(term.observables, term.weights) for term in terms]
    outputs: list[range] = []  # of sampled error signals: what their errors do is a response to every output
    for term in terms:
        singles = [] if term.replicas is None else [((observable,), np.ones(1)) for observable in term.observables]
        outputs.append(range(len(costs), len(costs) + len(singles)))
        costs.extend(singles)
    ansatz, n_forces = _ansatz(state, system, params, costs)
    if state.is_exact:
        return [_respond_exactly(state, system, ansatz, n_forces, j, tolerance) for j in range(len(terms))]
    fitted = cross_fit(ansatz, state.samples, None)
    return [
        _respond(fitted, system, n_forces, n_forces + j, [n_forces + k for k in outputs[j]], term)
        for j, term in enumerate(terms)
    ]


def expect(
    state: VariationalState, system: AbstractSpinSystem, params: Params, observables: Sequence[PauliSum]
) -> Estimate:
    """Expectation values (K,) in the free state of `system` with zero-variance controls; exact for a full sum.

    The Hamiltonian supplies functions of known mean 0, E[L u] = 0, which take up most of the variance of any observable.
    """
    return (state if state.is_exact else state.controlled(system.pauli_sum(params))).expect_all(observables)


def _ansatz(
    state: VariationalState,
    system: AbstractSpinSystem,
    params: Params,
    costs: Sequence[tuple[Sequence[PauliSum], np.ndarray]],
) -> tuple[Ansatz, int]:
    """The state with its Hamiltonian, the forces and the costs as observables, and the number of forces."""
    operators = system.operators()
    n_forces = sum(map(len, (group for _, group in system.terms)))
    table = state.table((*operators, *(observable for observables, _ in costs for observable in observables)))
    rows = [table.matrix[:n_forces]]
    start = len(operators)
    for observables, weights in costs:
        rows.append(np.atleast_2d(weights) @ table.matrix[start : start + len(observables)])
        start += len(observables)
    hamiltonian = system.strengths(params) @ table.matrix[: len(operators)]
    made = Ansatz(
        state.log_psi, state.variables, table, hamiltonian, np.concatenate(rows), chunk_size(table, state.variables)
    )
    return made, n_forces


def _respond(
    fitted: CrossFit,
    system: AbstractSpinSystem,
    n_forces: int,
    cost: int,
    outputs: Sequence[int],
    term: WeightedObservables,
) -> Response:
    if term.replicas is None:
        sampled = fitted.respond(cost, n_forces)
        grad = fitted.estimate([part.response for part in sampled])
    else:
        sampled, each = fitted.respond_sum(outputs, term.weights, n_forces)
        grad = _with_signals(fitted.estimate([part.response for part in sampled]), each, term.replicas)
    stats = diagnose(fitted, sampled, cost, grad, {name: len(group) for name, group in system.terms})
    status, advice = judge(stats, grad)
    reduced = fitted.estimate([values[:, [cost]] for values in fitted.reduced()])
    systematic = system.forces(stats["systematic"])
    stats |= {"cost": Estimate(reduced.mean[0], reduced.stderr[0]), "systematic": systematic}
    if advice:
        stats["advice"] = advice
    left = max(1 - stats["r2_cost"], 0.0) * max(1 - stats["r2_forces"], 0.0)
    truncation = {name: np.abs(value) for name, value in systematic.items()}
    return Response(_like_parameters(system, grad), np.asarray(np.sqrt(left)), status, stats, truncation)


def _with_signals(grad: Estimate, each: np.ndarray, signals: np.ndarray) -> Estimate:
    """A gradient sum_k w_k d<O_k>/dtheta with the errors of the error signal w, which the same samples have given.

    Args:
        grad: with the replicas of its blocks, at fixed w.
        each: d<O_k>/dtheta, (K, n_forces).
        signals: w without one block after the other, (R, K); R blocks are made of the blocks of `grad`.
    """
    assert grad.replicas is not None
    fine, coarse = len(grad.replicas), len(signals)
    off = np.zeros((coarse, grad.replicas.shape[1]))
    block = np.arange(fine) * coarse // fine
    np.add.at(off, block, grad.replicas - grad.mean)
    off *= ((fine - 1) / (fine - np.bincount(block, minlength=coarse)))[:, None]
    return Estimate.jackknife(grad.mean, grad.mean + off + (signals - signals.mean(axis=0)) @ each)


def _like_parameters(system: AbstractSpinSystem, grad: Estimate) -> Estimate:
    if grad.replicas is None:
        return Estimate.exact(system.forces(grad.mean))
    return Estimate.jackknife(system.forces(grad.mean), system.forces(grad.replicas))


def _respond_exactly(
    state: VariationalState, system: AbstractSpinSystem, ansatz: Ansatz, n_forces: int, cost: int, tolerance: float
) -> Response:
    single = replaced(ansatz, observables=ansatz.observables[np.r_[:n_forces, n_forces + cost]])
    weights = state.weights
    assert weights is not None
    out = implicit_response(state.vstate, single, state.samples[0], weights)
    stationary = out.energy_gradient <= STATIONARY * max(1.0, abs(out.energy))
    status = Status.OK if stationary and out.residual <= max(tolerance, ROUNDING) else Status.UNCONVERGED
    if not np.all(np.isfinite(out.grad)):
        status = Status.NOT_FINITE
    stats = {"energy_gradient": out.energy_gradient, "parameters": state.vstate.n_parameters}
    return Response(Estimate.exact(system.forces(out.grad)), np.asarray(out.residual), status, stats)
