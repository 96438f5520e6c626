"""`fit`: training by equilibrium propagation, with optax for the updates."""

import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .checkpoint import Checkpoint, digest
from .evaluation import Metric, check_data, evaluate
from .gradient import EPGradient, ep_gradient
from .graph import check_count
from .history import History, Records
from .nudge import AbstractNudge, check_nudge
from .precision import jax_float64
from .randomness import branch
from .scheme import AbstractScheme
from .solver import AbstractSolver, Equilibrium, describe, prepare
from .status import EquilibriumError, Status
from .system import AbstractSystem, Params, aligned_empty, sealed
from .written import check_function


class Memory(NamedTuple):
    """What the steps of a training need of earlier ones: the optimizer's state, and of solvers that carry their
    equilibria on (`solver.carries`) the last free one, from which the next starts."""

    optimizer: Any = None
    free: Equilibrium | None = None


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
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
) -> History:
    """Train `params` so that the cost falls.

    A solver whose equilibria cost much to find from nothing (`VariationalMonteCarlo`) starts each free phase from that of
    the step before; the last one is part of a checkpoint.

    Args:
        system, params, nudge, solver, scheme: as in `ep_gradient`.
        data: (inputs, targets), batch axis first, targets None for a cost without one; None minimises the cost of the
            undriven system, one step an epoch.
        optimizer: an optax gradient transformation; None takes `optax.adam(0.01)`.
        epochs, batch_size: passes over the data, and samples a step; the last batch of an epoch may be smaller.
        validation: (inputs, targets) to measure after every epoch.
        metric: `metric(expectations, targets)` on the validation data, e.g. `accuracy`.
        patience: stop after so many epochs without a lower validation loss (training loss without validation).
        frozen: names of parameters that stay as they are.
        tolerate: the worst status that a step may have. A worse one raises `EquilibriumError`: no step is taken with a
            gradient that cannot be trusted. The same holds of the states that `validation` is measured with.
        seed: of the shuffling (and of stochastic solvers); the same seed gives the same numbers to the bit.
        progress: show a bar on stderr; None shows it on terminals and in notebooks only.
        callback: called after every step with (step, gradient, parameters).
        checkpoint: a folder; the training is kept there every ten seconds and at its end.
        resume: go on from the checkpoint where there is one (with more epochs, if you like): what follows is equal to the
            bit to what an uninterrupted training would have given. `seconds` of the history adds up.
        identity: what else must be the same for a training to go on, name -> number or text. An optax transformation does
            not tell its settings: name those that matter, e.g. `{"learning_rate": 0.01}`.

    Returns:
        A `History`.

    Raises:
        EquilibriumError: a step ended in a worse status than `tolerate`, or a free phase of the validation data failed.
        FileExistsError: a checkpoint is there, but `resume` is False. ValueError: it is of another training.

    Example:
        >>> import numpy as np, optax, qeqprop as qp
        >>> net = qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0])
        >>> inputs = np.linspace(-1, 1, 8)[:, None]
        >>> cost, data = qp.ExpectationCost([qp.Z(1)]), (inputs, -0.5 * inputs)
        >>> history = qp.fit(net, net.init_params(0), cost, data, optimizer=optax.adam(0.1), epochs=30, progress=False)
        >>> bool(history.loss[-1] < 0.1 * history.loss[0])
        True
    """
    jax_float64()
    check_nudge(nudge)
    _, current, solver, _ = prepare(system, params, solver, None)
    check_training(epochs, batch_size, patience, frozen, system)
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"Argument `optimizer` must be one of optax, such as optax.adam(0.01), but is {optimizer!r}.")
    optimizer = _default_optimizer() if optimizer is None else optimizer
    # what a checkpoint may have to write at any moment must not be given away
    update = _compiled_update(optimizer, reuse=checkpoint is None)
    memory = Memory(_owned(optimizer.init({name: value for name, value in current.items() if name not in frozen})))

    def step(
        current: Params, memory: Memory, batch: Any, goal: Any, key: Any
    ) -> tuple[EPGradient, Params, Params, Memory]:
        out = ep_gradient(
            system, current, nudge, goal, solver=solver, scheme=scheme, inputs=batch, init=memory.free, key=key,
            throw=False,
        )  # fmt: skip
        trained = {name: value for name, value in current.items() if name not in frozen}
        grad = {name: out.grad[name] for name in trained}
        if out.status > tolerate:
            return out, grad, current, memory
        moved, moments = update(grad, memory.optimizer, trained)
        updated = current | {name: np.asarray(value) for name, value in moved.items()}
        return out, grad, updated, Memory(moments, out.free if solver.carries else None)

    kept = None
    if resume and checkpoint is None:
        raise ValueError("Argument `resume` must be False without a `checkpoint`, the folder to go on from.")
    if checkpoint is not None:
        known = {
            "solver": solver.name, "scheme": repr(scheme), "frozen": list(frozen), "batch_size": batch_size, "seed": seed,
            "parameters": digest(*current.values()), "data": digest(*(() if data is None else data)),
            "validation": digest(*(() if validation is None else validation)),
        }  # fmt: skip
        kept = Checkpoint(checkpoint, known | dict(identity or {}), resume=resume)
    return run_epochs(
        step, memory, system, current, nudge, data, solver,
        epochs=epochs, batch_size=batch_size, validation=validation, metric=metric, patience=patience,
        tolerate=tolerate, seed=seed, progress=progress, callback=callback, checkpoint=kept,
    )  # fmt: skip


@functools.cache
def _default_optimizer() -> Any:
    import optax

    return optax.adam(0.01)


@functools.lru_cache(maxsize=16)
def _compiled_update(optimizer: Any, reuse: bool) -> Callable[..., Any]:
    """(gradient, state of the optimizer, parameters) -> new parameters and state, compiled once.

    With `reuse` the new state may take the memory of the old one, which is gone then: fresh memory takes as long as the update.
    """
    import optax

    def update(grad: Any, moments: Any, trained: Any) -> Any:
        updates, moments = optimizer.update(grad, moments, trained)
        return optax.apply_updates(trained, updates), moments

    return jax_float64().jit(update, donate_argnums=(1,) if reuse else ())  # type: ignore[no-any-return]


def _owned(state: Any) -> Any:
    """The state of an optimizer with arrays that belong to nothing else."""
    jax = jax_float64()
    return jax.tree.map(lambda x: jax.numpy.array(x) if isinstance(x, np.ndarray | jax.Array) else x, state)


def run_epochs(
    step: Callable[[Params, Memory, Any, Any, Any], tuple[Any, Params, Params, Memory]],
    memory: Memory,
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
    checkpoint: Checkpoint | None = None,
) -> History:
    """The loop of every training: shuffled batches, held-out data, records. `step` makes the updates.

    Args:
        step: `step(params, memory, inputs, targets, key)` -> (result with `.loss` and `.status`, gradient, new parameters,
            new memory).
        memory: what the first step is given.
        batch_size: samples a step; None gives `step` one sample at a time, without a batch axis.
    """
    if not isinstance(tolerate, Status):
        raise TypeError(f"Argument `tolerate` must be a Status such as Status.LARGE_NUDGE, but is {tolerate!r}.")
    check_count(seed, "seed", 0)
    for name, function in (("metric", metric), ("callback", callback)):
        if function is not None:
            check_function(function, name)
    if metric is not None and validation is None:
        raise ValueError("Argument `metric` must be None without `validation`, the data that it is measured on.")
    inputs, targets = (None, None) if data is None else check_data(data, "data", system)
    held_out = None if validation is None else check_data(validation, "validation", system)
    root = np.random.SeedSequence(seed) if solver.stochastic else None
    rng, records = np.random.default_rng(seed), Records()
    if checkpoint is not None and checkpoint.found is not None:
        current, memory, records, shuffled = _restored(checkpoint.found, memory)
        rng.bit_generator.state = shuffled
    shuffled = rng.bit_generator.state  # as it was when the epoch began
    started = time.perf_counter() - records.seconds

    def content() -> dict[str, Any]:
        records.seconds = time.perf_counter() - started
        kept = {"params": current, "memory": memory.optimizer, "records": records.plain(), "shuffled": shuffled}
        return kept if memory.free is None else kept | {"free": memory.free}

    if checkpoint is not None:
        checkpoint.keep(content, now=True)  # what cannot be written is refused before any work
    try:
        with _progress_bar(epochs, records, progress) as bar:
            while records.epochs < epochs and not records.stopped:
                shuffled = rng.bit_generator.state
                rows_of_steps = _batches(None if inputs is None else len(inputs), batch_size, rng)
                for rows in rows_of_steps[records.steps_of_epoch :]:
                    batch, goal = (None if part is None else _rows(part, rows) for part in (inputs, targets))
                    key = branch(root, 0, len(records.loss))
                    out, grad, updated, remembered = step(current, memory, batch, goal, key)
                    if out.status > tolerate:
                        known = f"; free phase, {describe(out.free)}" if hasattr(out, "free") else "."
                        raise EquilibriumError(out.status, f"at training step {len(records.loss)}{known}")
                    current, memory = updated, remembered
                    records.step(out, grad)
                    if checkpoint is not None:
                        checkpoint.keep(content)
                    if callback is not None:
                        callback(len(records.loss), out, current)
                if held_out is not None:
                    key = branch(root, 1, records.epochs)
                    borne = max(tolerate, Status.INACCURATE)
                    scores = evaluate(
                        system, current, nudge, held_out, solver=solver, metric=metric, key=key, tolerate=borne
                    )
                    records.validate(scores)
                bar.update()
                bar.set_postfix(records.postfix())
                records.epoch_done(current, patience)
                shuffled = rng.bit_generator.state
    finally:  # also after an error or Ctrl-C
        if checkpoint is not None:
            checkpoint.keep(content, now=True)
    records.seconds = time.perf_counter() - started
    return records.history(current, seed)


def _restored(found: dict[str, Any], fresh: Memory) -> tuple[Params, Memory, Records, Any]:
    """Parameters, memory (the optimizer's state of the types of a `fresh` one), record, and the state of the shuffling."""
    jax = jax_float64()
    if jax.tree.structure(found["memory"]) != jax.tree.structure(fresh.optimizer):
        raise ValueError("Argument `optimizer` is another one than that of the checkpoint.")
    memory = jax.tree.map(
        lambda new, old: jax.numpy.asarray(new, np.asarray(old).dtype), found["memory"], fresh.optimizer
    )
    return found["params"], Memory(memory, found.get("free")), Records.from_plain(found["records"]), found["shuffled"]


def _progress_bar(epochs: int, records: Records, progress: bool | None) -> Any:
    from tqdm.auto import tqdm

    disable = None if progress is None else not progress
    return tqdm(total=epochs, initial=records.epochs, desc="training", unit="epoch", disable=disable)


def _batches(n_samples: int | None, batch_size: int | None, rng: np.random.Generator) -> list[Any]:
    """The rows of every step of an epoch, shuffled."""
    if n_samples is None:
        return [None]
    order = rng.permutation(n_samples)
    if batch_size is None:
        return list(order)
    return [order[start : start + batch_size] for start in range(0, n_samples, batch_size)]


def _rows(part: np.ndarray, rows: Any) -> Any:
    """Some rows, in an array that nobody changes and that needs no further copy."""
    if not isinstance(rows, np.ndarray) or part.dtype == object:
        return part[rows]
    batch = aligned_empty((len(rows), *part.shape[1:]), part.dtype)
    np.take(part, rows, axis=0, out=batch, mode="clip")  # in range they are; other modes take it through a buffer
    return sealed(batch)


def check_training(
    epochs: int, batch_size: int | None, patience: int | None, frozen: tuple[str, ...], system: AbstractSystem
) -> None:
    """Refuse what no training can be run with."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"Argument `{name}` must be a positive integer, but is {value!r}.")
    if isinstance(frozen, str):
        raise TypeError(f"Argument `frozen` must be a tuple of names such as ({frozen!r},), but is {frozen!r}.")
    if unknown := [name for name in frozen if name not in system.param_shapes]:
        raise ValueError(f"Argument `frozen` must have names among {list(system.param_shapes)}, but has {unknown}.")
