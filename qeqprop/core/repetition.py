"""Independent repetitions of a stochastic gradient: a standard error that leaves nothing out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .estimate import Estimate
from .gradient import EPGradient, ep_gradient
from .graph import check_count
from .nudge import AbstractNudge
from .randomness import branch, seed_sequence
from .solver import AbstractSolver
from .system import AbstractSystem, replaced


def repeated_gradient(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    repetitions: int = 16,
    solver: AbstractSolver,
    key: Any = None,
    **options: Any,
) -> EPGradient:
    """Mean of independent gradients; the standard error is that of their scatter ("batch means").

    The standard error of one `ep_gradient` is that of its forces at the error signal dL/d<O> that its free phase gave.
    Where that signal is measured as well, its noise moves the nudge and with it the gradient, which only repetitions
    with signals of their own can see. The error of the error is 1/sqrt(2 (repetitions - 1)). Where the signal is not
    linear in the outputs, its noise also leaves a bias of order 1/shots, which no repetition shows.

    Args:
        repetitions: at least 2. Each spends what one gradient spends.
        solver: a stochastic solver.
        key: an integer seed; None draws a fresh one.
        options: of `ep_gradient` (scheme, inputs, throw, ...).

    Returns:
        An `EPGradient` with the means; `free` and `nudged` are those of the last repetition.

    Raises:
        ValueError: the solver draws no random numbers, or fewer than two repetitions.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> cost = qp.ExpectationCost([qp.Z(1)])
        >>> out = qp.repeated_gradient(net, params, cost, [0.5], key=0, scheme=qp.centered(0.2),
        ...                            solver=qp.Measured(qp.ExactDiagonalization(), shots=1000))
        >>> qp.Estimate(out.grad["g"], out.stderr["g"])  # exact: 0.104, 0.112
        [0.097(12), 0.116(13)]
    """
    check_count(repetitions, "repetitions", 2)
    if not isinstance(solver, AbstractSolver) or not solver.stochastic:
        raise ValueError(f"Argument `solver` must draw random numbers to be repeated, but is {solver!r}.")
    root = seed_sequence(key)
    outs = [
        ep_gradient(system, params, nudge, target, solver=solver, key=branch(root, k), **options)
        for k in range(repetitions)
    ]
    grads, truncations = ({name: [getattr(out, field)[name] for out in outs] for name in outs[0].grad}
                          for field in ("grad", "truncation"))  # fmt: skip
    losses = np.array([out.losses for out in outs])
    return replaced(
        outs[-1],
        loss=_mean(np.array([float(out.loss) for out in outs])),
        losses=losses.mean(axis=0),
        grad={name: np.mean(values, axis=0) for name, values in grads.items()},
        stderr={name: _mean(np.array(values)).stderr for name, values in grads.items()},
        truncation={name: np.mean(values, axis=0) for name, values in truncations.items()},
        residual=max(out.residual for out in outs),
        nudge_ratio=max((out.nudge_ratio for out in outs if out.nudge_ratio is not None), default=None),
        status=max(out.status for out in outs),
    )


def _mean(values: np.ndarray) -> Estimate:
    return Estimate(values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values)))
