"""Simultaneous perturbation: the gradient from losses at random perturbations of all parameters at once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .estimate import Estimate
from .gradient import EPGradient, Problem, mean_loss
from .graph import check_count
from .nudge import AbstractNudge, check_nudge
from .randomness import branch, seed_sequence
from .reference import free_losses, worst_status
from .scheme import check_strength
from .solver import AbstractSolver, describe, prepare
from .status import EquilibriumError
from .system import AbstractSystem
from .used import note


def spsa_gradient(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: AbstractSolver | None = None,
    step: float = 0.1,
    directions: int = 8,
    inputs: ArrayLike | None = None,
    key: Any = None,
    throw: bool = True,
) -> EPGradient:
    r"""The gradient by simultaneous perturbation (SPSA), to compare equilibrium propagation with.

    .. math:: \hat g = \frac{L(\theta + c \Delta) - L(\theta - c \Delta)}{2 c} \Delta, \qquad \Delta_k = \pm 1

    averaged over random directions. Two losses a direction, whatever the number P of parameters; but each component of
    one direction carries the noise of all others: its variance is that of the loss, plus sum_(j != k) g_j^2.

    Args:
        system, params, nudge, target, solver, inputs: as in `ep_gradient`.
        step: c, the change of every parameter. The truncation error is of order c^2 P.
        directions: at least 2: their scatter is the standard error.
        key: an integer seed of the directions (and of stochastic solvers); None draws a fresh one.
        throw: raise `EquilibriumError` where a solve failed.

    Returns:
        An `EPGradient` without truncation estimate (NaN).

    Source: J. C. Spall, IEEE Trans. Autom. Control 37, 332 (1992).

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> out = qp.spsa_gradient(net, params, qp.ObservableCost(qp.Z(1)), step=1e-3, directions=2000, key=0)
        >>> qp.Estimate(out.grad["g"], out.stderr["g"])  # exact: -0.2340, -0.2551
        [-0.25(3), -0.25(3)]
    """
    check_nudge(nudge)
    step = abs(check_strength(step, "step"))
    check_count(directions, "directions", 2)
    root = seed_sequence(key)
    stochastic = (system.default_solver() if solver is None else solver).stochastic
    system, checked, solver, seed = prepare(system, params, solver, inputs, branch(root, 0) if stochastic else None)
    note("spsa_gradient")
    problem = Problem(system, checked, nudge, nudge.check_target(target, system.batch_size), solver, branch(seed, 0))
    phases, losses = free_losses(problem, None, inputs)
    signs, status = np.random.default_rng(branch(root, 1)), worst_status(phases)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in checked}
    for k in range(directions):
        delta = {name: signs.choice((-1.0, 1.0), size=value.shape) for name, value in checked.items()}
        ends = []
        for side, sign in enumerate((1, -1)):
            moved = {name: value + sign * step * delta[name] for name, value in checked.items()}
            perturbed = problem._replace(params=moved, key=branch(seed, 1 + k, side))
            moved_phases, end = free_losses(perturbed, phases, inputs)
            ends.append(float(mean_loss(end)[0]))
            status = max(status, worst_status(moved_phases))
        if throw and status.failed:
            raise EquilibriumError(status, f"in direction {k}, {describe(moved_phases[-1])}")
        for name, part in samples.items():
            part.append((ends[0] - ends[1]) / (2 * step) * delta[name])
    loss, each = mean_loss(losses)
    grads = {name: np.array(part) for name, part in samples.items()}
    return EPGradient(
        loss=Estimate(loss.mean, loss.stderr),
        losses=each,
        grad={name: part.mean(axis=0) for name, part in grads.items()},
        stderr={name: part.std(axis=0, ddof=1) / np.sqrt(directions) for name, part in grads.items()},
        truncation={name: np.full(value.shape, np.nan) for name, value in checked.items()},
        residual=max(phase.worst()[0] for phase in phases) / step,
        nudge_ratio=None,
        scheme=f"SPSA, step {step:g}, {directions} directions",
        solver=solver,
        free=phases[-1],
        nudged=(),
        status=status,
    )
