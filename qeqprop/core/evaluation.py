"""What a system makes of a data set at given parameters: outputs, losses and metrics, without gradients."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .graph import check_count
from .history import Scores
from .nudge import AbstractNudge, check_nudge
from .randomness import branch
from .solver import AbstractSolver, Equilibrium, describe, prepare
from .status import EquilibriumError, Status
from .system import AbstractSystem

Metric = Callable[[np.ndarray, Any], float]


def accuracy(expectations: np.ndarray, targets: np.ndarray) -> float:
    """Fraction of samples whose largest output is the target's largest entry.

    Example:
        >>> accuracy(np.array([[0.9, 0.1], [0.2, 0.3]]), np.array([[1, 0], [1, 0]]))
        0.5

    Raises:
        ValueError: targets of another shape, such as class labels.
    """
    if np.shape(expectations) != np.shape(targets):
        raise ValueError(
            f"Argument `targets` must have the shape of the expectations, {np.shape(expectations)}, but has "
            f"{np.shape(targets)}: of class labels make `np.eye({np.shape(expectations)[-1]})[labels]`."
        )
    return float(np.mean(np.argmax(expectations, axis=-1) == np.argmax(targets, axis=-1)))


def predict(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    inputs: ArrayLike,
    *,
    solver: AbstractSolver | None = None,
    chunk: int = 256,
    key: Any = None,
    tolerate: Status = Status.INACCURATE,
) -> np.ndarray:
    """Expectation values of the nudge's observables at the free equilibria, shape (n_samples, n_observables).

    Args:
        system, params, nudge, solver, key: as in `ep_gradient`.
        inputs: batch axis first.
        chunk: samples solved for at a time, where the solver takes batches.
        tolerate: the worst status that a free phase may have.

    Raises:
        EquilibriumError: a free phase has a worse status, so that its outputs would mean nothing.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0])
        >>> params = {"J": [1.0], "h": [0.0, 0.0], "g": [1.0, 1.0]}
        >>> qp.predict(net, params, qp.ExpectationCost([qp.Z(1)]), [[0.5], [-0.5]]).round(4)
        array([[ 0.4082],
               [-0.4082]])
    """
    check_nudge(nudge)
    states = (state for _, state in _free_states(system, params, np.asarray(inputs), solver, chunk, key, tolerate))
    return np.concatenate([_outputs(state, nudge) for state in states])


def _free_states(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    inputs: np.ndarray,
    solver: AbstractSolver | None,
    chunk: int,
    key: Any,
    tolerate: Status,
) -> Iterator[tuple[slice | int, Any]]:
    """Free states of a data set with the rows they belong to: chunk by chunk, or one by one where the solver must."""
    if not inputs.ndim or not len(inputs):
        got = "a single value" if not inputs.ndim else "empty"
        raise ValueError(f"Argument `inputs` must be an array of samples, batch axis first, but is {got}.")
    for start in range(0, len(inputs), check_count(chunk, "chunk")):
        rows = slice(start, min(start + chunk, len(inputs)))
        driven, checked, chosen, seed = prepare(system, params, solver, inputs[rows], key)
        if chosen.accepts_batch(driven):
            yield rows, _found(chosen.solve(driven, checked, key=branch(seed, start)), rows, tolerate)
            continue
        for row in range(rows.start, rows.stop):
            single = system.with_inputs(inputs[row])
            yield row, _found(chosen.solve(single, checked, key=branch(seed, row)), row, tolerate)


def _found(free: Equilibrium, rows: slice | int, tolerate: Status) -> Any:
    """The state of a free equilibrium, if it was found."""
    if free.status > tolerate:
        where = f"sample {rows}" if isinstance(rows, int) else f"samples {rows.start} to {rows.stop - 1}"
        raise EquilibriumError(free.status, f"free phase of {where}, {describe(free)}")
    return free.state


def _outputs(state: Any, nudge: AbstractNudge) -> np.ndarray:
    return np.atleast_2d(state.expect_all(nudge.observables).mean)


def evaluate(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    data: tuple[ArrayLike, ArrayLike | None],
    *,
    solver: AbstractSolver | None = None,
    metric: Metric | None = None,
    chunk: int = 256,
    key: Any = None,
    tolerate: Status = Status.INACCURATE,
) -> Scores:
    """Mean loss (and metric) over a data set, without gradients.

    Args:
        system, params, nudge, solver, key: as in `ep_gradient`.
        data: (inputs, targets), batch axis first, targets None for a cost without one.
        metric: `metric(expectations, targets)`, e.g. `accuracy`; None measures the loss alone.
        chunk: samples solved for at a time, where the solver takes batches.
        tolerate: the worst status that a free phase may have.

    Raises:
        EquilibriumError: a free phase has a worse status, so that its outputs would mean nothing.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0])
        >>> params = {"J": [1.0], "h": [0.0, 0.0], "g": [1.0, 1.0]}
        >>> scores = qp.evaluate(net, params, qp.ExpectationCost([qp.Z(1)]), ([[0.5], [-0.5]], [[0.4], [-0.4]]))
        >>> print(f"{scores.loss:.2e}", scores.metric)
        6.80e-05 None
    """
    check_nudge(nudge)
    inputs, targets = check_data(data, "data", system)
    losses, outputs = [], []
    for rows, state in _free_states(system, params, inputs, solver, chunk, key, tolerate):
        losses.append(np.atleast_1d(nudge.cost(state, None if targets is None else targets[rows]).mean))
        outputs.append(_outputs(state, nudge))
    score = None if metric is None else float(metric(np.concatenate(outputs), targets))
    return Scores(float(np.mean(np.concatenate(losses))), score)


def check_data(data: Any, name: str, system: AbstractSystem) -> tuple[np.ndarray, np.ndarray | None]:
    """A pair (inputs, targets) as arrays, refused where it does not fit the system."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"Argument `{name}` must be a pair (inputs, targets).")
    inputs, targets = np.asarray(data[0]), None if data[1] is None else np.asarray(data[1])
    if not len(inputs) or (targets is not None and len(inputs) != len(targets)):
        raise ValueError(
            f"Argument `{name}` must hold as many inputs as targets and at least one, "
            f"but has {len(inputs)} inputs and {0 if targets is None else len(targets)} targets."
        )
    system.with_inputs(inputs[:1])  # one sample has the right shape,
    system.with_inputs(inputs)  # and all of them are finite
    return inputs, targets
