"""`fit`: training by equilibrium propagation, with optax for the updates."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from .gradient import EPGradient, ep_gradient
from .nudge import AbstractNudge
from .precision import jax_float64
from .randomness import branch
from .scheme import AbstractScheme
from .solver import AbstractSolver, prepare
from .status import EquilibriumError, Status
from .system import AbstractSystem, Params

Metric = Callable[[np.ndarray, Any], float]


def accuracy(expectations: np.ndarray, targets: np.ndarray) -> float:
    """Fraction of samples whose largest output is the target's largest entry.

    Example:
        >>> accuracy(np.array([[0.9, 0.1], [0.2, 0.3]]), np.array([[1, 0], [1, 0]]))
        0.5
    """
    return float(np.mean(np.argmax(expectations, axis=-1) == np.argmax(targets, axis=-1)))


class History(eqx.Module):
    """What a training did. Prints a summary; `.plot()` draws the curves; `qp.save` keeps it.

    Attributes:
        params: parameters after the last step.
        best_params: parameters of the epoch with the lowest validation loss (training loss without validation data).
        loss, grad_norm: of every step, shape (n_steps,).
        validation_loss, metric: after every epoch, shape (n_epochs,); empty where there was nothing to measure.
        best_epoch: number of that epoch, from 0.
        status_counts: how many steps ended in which status.
        stopped_early: whether `patience` ended the training.
        seed, seconds: of the run.
    """

    params: Params
    best_params: Params
    loss: np.ndarray
    grad_norm: np.ndarray
    validation_loss: np.ndarray
    metric: np.ndarray
    best_epoch: int
    status_counts: dict[str, int]
    stopped_early: bool
    seed: int
    seconds: float

    def __repr__(self) -> str:
        rows = [f"History  {self.loss.size} steps in {self.seconds:.1f} s, seed {self.seed}"]
        if self.loss.size:
            rows.append(f"  loss             {self.loss[0]:.6g} -> {self.loss[-1]:.6g}")
        if self.validation_loss.size:
            rows.append(f"  validation loss  {self.validation_loss[0]:.6g} -> {self.validation_loss[-1]:.6g}")
        if self.metric.size:
            rows.append(f"  metric           {self.metric[0]:.4f} -> {self.metric[-1]:.4f}")
        rows.append(f"  best epoch       {self.best_epoch}" + (" (stopped early)" if self.stopped_early else ""))
        rows.append("  status           " + ", ".join(f"{k}: {v}" for k, v in self.status_counts.items()))
        return "\n".join(rows)

    def plot(self, ax: Any = None) -> Any:
        """Training curves; see `qeqprop.plot.training_curves`."""
        from ..plot import training_curves

        return training_curves(self, ax=ax)


def predict(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    inputs: ArrayLike,
    *,
    solver: AbstractSolver | None = None,
    chunk: int = 256,
    key: Any = None,
) -> np.ndarray:
    """Expectation values of the nudge's observables at the free equilibria, shape (n_samples, n_observables)."""
    states = (state for _, state in _free_states(system, params, np.asarray(inputs), solver, chunk, key))
    return np.concatenate([_outputs(state, nudge) for state in states])


def _free_states(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    inputs: np.ndarray,
    solver: AbstractSolver | None,
    chunk: int,
    key: Any,
) -> Iterator[tuple[slice | int, Any]]:
    """Free states of a data set with the rows they belong to: chunk by chunk, or one by one where the solver must."""
    for start in range(0, len(inputs), chunk):
        rows = slice(start, min(start + chunk, len(inputs)))
        driven, checked, chosen, seed = prepare(system, params, solver, inputs[rows], key)
        if chosen.accepts_batch(driven):
            yield rows, chosen.solve(driven, checked, key=branch(seed, start)).state
            continue
        for row in range(rows.start, rows.stop):
            yield row, chosen.solve(system.with_inputs(inputs[row]), checked, key=branch(seed, row)).state


def _outputs(state: Any, nudge: AbstractNudge) -> np.ndarray:
    return np.atleast_2d(state.expect_all(nudge.observables).mean)


class _Scores(eqx.Module):
    """Losses and metric on held-out data."""

    loss: float
    metric: float | None


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
) -> _Scores:
    """Mean loss (and metric) over a data set, without gradients."""
    inputs, targets = _check_data(data, "data", system)
    losses, outputs = [], []
    for rows, state in _free_states(system, params, inputs, solver, chunk, key):
        losses.append(np.atleast_1d(nudge.cost(state, None if targets is None else targets[rows]).mean))
        outputs.append(_outputs(state, nudge))
    score = None if metric is None else float(metric(np.concatenate(outputs), targets))
    return _Scores(float(np.mean(np.concatenate(losses))), score)


def fit(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    data: tuple[ArrayLike, ArrayLike | None] | None = None,
    *,
    solver: AbstractSolver | None = None,
    scheme: AbstractScheme | None = None,
    optimizer: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    validation: tuple[ArrayLike, ArrayLike | None] | None = None,
    metric: Metric | None = None,
    patience: int | None = None,
    frozen: tuple[str, ...] = (),
    tolerate: Status = Status.LARGE_NUDGE,
    seed: int = 0,
    progress: bool | None = None,
    callback: Callable[[int, EPGradient, Params], None] | None = None,
) -> History:
    """Train `params` so that the cost falls.

    Args:
        data: (inputs, targets), batch axis first, targets None for a cost without one; None minimises the cost of the
            undriven system, one step an epoch.
        optimizer: an optax gradient transformation; None takes `optax.adam(0.01)`.
        epochs, batch_size: passes over the data, and samples a step; the last batch of an epoch may be smaller.
        validation: (inputs, targets) to measure after every epoch.
        metric: `metric(expectations, targets)` on the validation data, e.g. `accuracy`.
        patience: stop after so many epochs without a lower validation loss (training loss without validation).
        frozen: names of parameters that stay as they are.
        tolerate: the worst status that a step may have. A worse one raises `EquilibriumError`: no step is taken with a
            gradient that cannot be trusted.
        seed: of the shuffling (and of stochastic solvers); the same seed gives the same numbers to the bit.
        progress: show a bar on stderr; None shows it on terminals and in notebooks only.
        callback: called after every step with (step, gradient, parameters).

    Returns:
        A `History`.
    """
    import optax

    jax_float64()
    _, current, solver, _ = prepare(system, params, solver, None)
    check_training(epochs, batch_size, patience, frozen, system)
    optimizer = optax.adam(0.01) if optimizer is None else optimizer
    moments = optimizer.init({name: value for name, value in current.items() if name not in frozen})

    def step(current: Params, batch: Any, goal: Any, key: Any) -> tuple[EPGradient, Params, Params]:
        nonlocal moments
        out = ep_gradient(
            system, current, nudge, goal, solver=solver, scheme=scheme, inputs=batch, key=key, throw=False
        )
        trained = {name: value for name, value in current.items() if name not in frozen}
        grad = {name: out.grad[name] for name in trained}
        if out.status > tolerate:
            return out, grad, current
        updates, moments = optimizer.update(grad, moments, trained)
        return out, grad, current | {name: np.asarray(trained[name] + updates[name]) for name in trained}

    return run_epochs(
        step, system, current, nudge, data, solver,
        epochs=epochs, batch_size=batch_size, validation=validation, metric=metric, patience=patience,
        tolerate=tolerate, seed=seed, progress=progress, callback=callback,
    )  # fmt: skip


def run_epochs(
    step: Callable[[Params, Any, Any, Any], tuple[Any, Params, Params]],
    system: AbstractSystem,
    current: Params,
    nudge: AbstractNudge,
    data: tuple[ArrayLike, ArrayLike | None] | None,
    solver: AbstractSolver,
    *,
    epochs: int,
    batch_size: int | None,
    validation: tuple[ArrayLike, ArrayLike | None] | None,
    metric: Metric | None,
    patience: int | None,
    tolerate: Status,
    seed: int,
    progress: bool | None,
    callback: Callable[[int, Any, Params], None] | None,
) -> History:
    """The loop of every training: shuffled batches, held-out data, records. `step` makes the updates.

    Args:
        step: `step(params, inputs, targets, key)` -> (result with `.loss` and `.status`, gradient, new parameters).
        batch_size: samples a step; None gives `step` one sample at a time, without a batch axis.
    """
    from tqdm.auto import tqdm

    inputs, targets = (None, None) if data is None else _check_data(data, "data", system)
    held_out = None if validation is None else _check_data(validation, "validation", system)
    root = np.random.SeedSequence(seed) if solver.stochastic else None
    rng, started = np.random.default_rng(seed), time.perf_counter()
    records = _Records()
    bar = tqdm(total=epochs, desc="training", unit="epoch", disable=None if progress is None else not progress)
    with bar:
        for _ in range(epochs):
            for rows in _batches(None if inputs is None else len(inputs), batch_size, rng):
                batch, goal = (None if part is None else part[rows] for part in (inputs, targets))
                out, grad, current = step(current, batch, goal, branch(root, 0, len(records.loss)))
                if out.status > tolerate:
                    raise EquilibriumError(out.status, f"at training step {len(records.loss)}.")
                records.step(out, grad)
                if callback is not None:
                    callback(len(records.loss), out, current)
            if held_out is not None:
                key = branch(root, 1, records.epochs)
                records.validate(evaluate(system, current, nudge, held_out, solver=solver, metric=metric, key=key))
            bar.update()
            bar.set_postfix(records.postfix())
            if records.epoch_done(current, patience):
                break
    return records.history(current, seed, time.perf_counter() - started)


class _Records:
    """The running record of a training."""

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.grad_norm: list[float] = []
        self.validation: list[_Scores] = []
        self.counts: dict[str, int] = {}
        self.best: tuple[float, int, Params] = (np.inf, -1, {})
        self.epochs, self.first_step, self.stopped = 0, 0, False

    def step(self, out: Any, grad: Params) -> None:
        self.loss.append(float(out.loss))
        self.grad_norm.append(float(np.sqrt(sum(np.sum(value**2) for value in grad.values()))))
        self.counts[str(out.status)] = self.counts.get(str(out.status), 0) + 1

    def validate(self, scores: _Scores) -> None:
        self.validation.append(scores)

    def postfix(self) -> dict[str, str]:
        shown = {"loss": f"{np.mean(self.loss[self.first_step :]):.4g}"}
        if self.validation:
            shown["validation"] = f"{self.validation[-1].loss:.4g}"
            if self.validation[-1].metric is not None:
                shown["metric"] = f"{self.validation[-1].metric:.3f}"
        return shown

    def epoch_done(self, params: Params, patience: int | None) -> bool:
        """Keep the best parameters; True where patience has run out."""
        score = self.validation[-1].loss if self.validation else float(np.mean(self.loss[self.first_step :]))
        if score < self.best[0]:
            self.best = (score, self.epochs, params)
        self.epochs, self.first_step = self.epochs + 1, len(self.loss)
        self.stopped = patience is not None and self.epochs - 1 - self.best[1] >= patience
        return self.stopped

    def history(self, params: Params, seed: int, seconds: float) -> History:
        metrics = [scores.metric for scores in self.validation if scores.metric is not None]
        return History(
            params=params,
            best_params=self.best[2] or params,
            loss=np.array(self.loss),
            grad_norm=np.array(self.grad_norm),
            validation_loss=np.array([scores.loss for scores in self.validation]),
            metric=np.array(metrics),
            best_epoch=self.best[1],
            status_counts=self.counts,
            stopped_early=self.stopped,
            seed=seed,
            seconds=seconds,
        )


def _batches(n_samples: int | None, batch_size: int | None, rng: np.random.Generator) -> Iterator[Any]:
    if n_samples is None:
        yield None
        return
    order = rng.permutation(n_samples)
    if batch_size is None:
        yield from order
        return
    for start in range(0, n_samples, batch_size):
        yield order[start : start + batch_size]


def _check_data(data: Any, name: str, system: AbstractSystem) -> tuple[np.ndarray, np.ndarray | None]:
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


def check_training(
    epochs: int, batch_size: int | None, patience: int | None, frozen: tuple[str, ...], system: AbstractSystem
) -> None:
    """Refuse what no training can be run with."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"Argument `{name}` must be a positive integer, but is {value!r}.")
    if unknown := [name for name in frozen if name not in system.param_shapes]:
        raise ValueError(f"Argument `frozen` must have names among {list(system.param_shapes)}, but has {unknown}.")
