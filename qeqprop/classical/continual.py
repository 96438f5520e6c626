r"""Continual equilibrium propagation: the parameters learn while the network moves, and nothing is stored.

Plain EP compares two states, and something must remember the first. Here the parameters follow the forces at every step
of the nudged phase (Ernoult, Grollier, Querlioz, Bengio and Scellier 2020, "Equilibrium propagation with continual weight
updates", arXiv:2005.04168):

    s_{t+1}     = s_t - dt d(E + beta C)/ds (theta_t, s_t) ,
    theta_{t+1} = theta_t - (eta / beta) [dE/dtheta (theta_t, s_{t+1}) - dE/dtheta (theta_t, s_t)] ,        t < K .   (C-EP)

While theta hardly moves, eta -> 0, the K updates sum up to -eta times the gradient of EP after K nudged steps, which at
beta -> 0 is that of K steps of backpropagation through time. At a finite rate the relative difference is O(eta / beta): the
state follows the parameters, O(eta), while the nudge displaces it by O(beta). So eta must stay well below beta.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.evaluation import Metric
from ..core.history import History
from ..core.module import AbstractModule
from ..core.nudge import AbstractNudge
from ..core.precision import jax_float64
from ..core.solver import prepare
from ..core.status import EquilibriumError, Status
from ..core.system import AbstractSystem, Params, real_array
from ..core.training import Memory, check_training, run_epochs
from .discrete_time import DiscreteTime
from .energy import AbstractPotentialSystem
from .state_cost import StateCost
from .time_steps import Motion, Reader, Scene, check_moving, cost_at, motion_of, reader

Rates = float | Mapping[str, float]


class ContinualStep(AbstractModule):
    """One presentation of a sample, or of a batch, during whose nudged phase the parameters moved.

    Attributes:
        params: theta_K, the parameters in the end.
        displacement: theta_K - theta_0.
        loss: the cost at the free state (mean over the batch), an `Estimate`.
        losses: of every sample.
        beta: the nudge.
        rates: dict name -> eta.
        residual: largest slope of a free state of the batch.
        relaxed: the slope in the end, in units of the force that the nudge starts with (norms over the batch).
        solver: the time steps.
        status: unconverged where the free state still moves by itself (more than `solver.tolerance` times the nudge's force),
            or more than `solver.truncation` of that force is left in the end.
    """

    params: Params
    displacement: Params
    loss: Estimate
    losses: np.ndarray
    beta: float
    rates: dict[str, float]
    residual: float
    relaxed: float
    solver: DiscreteTime
    status: Status

    @property
    def grad_estimate(self) -> Params:
        """-displacement / eta: the gradient of EP to first order in eta; 0 of parameters with rate 0."""
        return {name: -d / self.rates[name] if self.rates[name] else -d for name, d in self.displacement.items()}

    def __repr__(self) -> str:
        moved = ", ".join(f"{name} by {np.linalg.norm(d):.2g}" for name, d in self.displacement.items())
        return (
            f"ContinualStep  loss = {self.loss}  beta = {self.beta:g}  solver = {self.solver}\n"
            f"  status = {self.status}  residual = {self.residual:.1e}  relaxed to {self.relaxed:.1e}  moved: {moved}"
        )


def continual_step(
    system: AbstractPotentialSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: DiscreteTime,
    beta: float = 0.1,
    rate: Rates = 0.01,
    inputs: ArrayLike | None = None,
    throw: bool = True,
) -> ContinualStep:
    """One free phase, and one nudged phase in which the parameters learn at every step.

    Args:
        system: an `EnergySystem`; a batch shares the parameters, which follow the mean of the forces.
        params: dict of arrays with the names and shapes of `system.param_shapes`.
        nudge: a `StateCost`.
        target: what it compares with; batch axis first where `inputs` has one.
        solver: how many steps of which length, a `DiscreteTime`.
        beta: the nudge; its sign may be drawn anew at every step (`fit_continual`).
        rate: eta, well below `beta`; for all parameters or by name (those that are not named rest).
        inputs: one sample, or a batch.
        throw: raise `EquilibriumError` where a phase did not come to rest; else the status says so.

    Raises:
        EquilibriumError: see `throw`; numbers that are not finite.
        ValueError, TypeError: bad arguments, before any work.

    Source: Ernoult et al., arXiv:2005.04168 (2020).

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: p["k"] @ (s**2 + s**4) / 2 - s.sum(), (1,), {"k": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2)
        >>> steps = qp.classical.DiscreteTime(dt=0.1, free_steps=200)
        >>> out = qp.classical.continual_step(
        ...     well, {"k": [2.0]}, cost, 1.0, solver=steps, beta=1e-4, rate=1e-7)
        >>> print(out.status, out.grad_estimate["k"].round(3))
        ok [0.081]
    """
    system, cost = check_moving(system, nudge, "`continual_step`")
    check_iterated(solver)
    rates, strength = _rates(system, rate), _strength(beta)
    _, checked, _, _ = prepare(system, params, solver, None)
    driven = _driven(system, inputs)
    out = _present(driven, checked, cost, cost.check_target(target, driven.batch_size), solver, strength, rates)
    if throw and out.status.failed:
        raise EquilibriumError(out.status, f"free residual = {out.residual:.2g}, relaxed to {out.relaxed:.2g}.")
    return out


def fit_continual(
    system: AbstractPotentialSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    data: tuple[ArrayLike, ArrayLike | None] | None = None,
    *,
    solver: DiscreteTime,
    beta: float = 0.1,
    rate: Rates = 0.01,
    random_sign: bool = False,
    epochs: int = 10,
    batch_size: int = 32,
    validation: tuple[ArrayLike, ArrayLike | None] | None = None,
    metric: Metric | None = None,
    patience: int | None = None,
    tolerate: Status = Status.LARGE_NUDGE,
    seed: int = 0,
    progress: bool | None = None,
    callback: Callable[[int, ContinualStep, Params], None] | None = None,
) -> History:
    """Train by continual equilibrium propagation: no optimizer and no stored state, the network learns while it moves.

    Args:
        random_sign: draw the sign of the nudge anew at every step, which takes most of the bias of a one-sided nudge out
            (Scellier and Bengio, arXiv:1602.05179).
        data, epochs, batch_size, validation, metric, patience, tolerate, seed, progress: as of `fit`.
        system, params, nudge, solver, beta, rate: as of `continual_step`.
        callback: called with (step, `ContinualStep`, parameters).

    Returns:
        A `History`; `grad_norm` holds the norms of `ContinualStep.grad_estimate`.

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: (s**2 + s**4).sum() / 2 - p["b"] @ s, (1,), {"b": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - 0.5) ** 2 / 2)
        >>> steps = qp.classical.DiscreteTime(dt=0.1, free_steps=200)
        >>> history = qp.classical.fit_continual(
        ...     well, {"b": [0.0]}, cost, solver=steps, beta=0.5, rate=0.1, epochs=200, progress=False)
        >>> print(history.loss[0], bool(history.loss[-1] < 1e-3))
        0.125 True
    """
    system, cost = check_moving(system, nudge, "`fit_continual`")
    check_iterated(solver)
    rates, strength = _rates(system, rate), _strength(beta)
    _, current, _, _ = prepare(system, params, solver, None)
    check_training(epochs, batch_size, patience, (), system)
    signs = np.random.default_rng([seed, 1])

    def step(
        current: Params, memory: Memory, batch: Any, goal: Any, key: Any
    ) -> tuple[ContinualStep, Params, Params, Memory]:
        driven = _driven(system, batch)
        nudged = strength * signs.choice([-1.0, 1.0]) if random_sign else strength
        out = _present(driven, current, cost, cost.check_target(goal, driven.batch_size), solver, nudged, rates)
        return out, out.grad_estimate, out.params, memory

    return run_epochs(
        step, Memory(), system, current, nudge, data, solver,
        epochs=epochs, batch_size=batch_size, validation=validation, metric=metric, patience=patience,
        tolerate=tolerate, seed=seed, progress=progress, callback=callback,
    )  # fmt: skip


def check_iterated(solver: Any) -> None:
    """Refuse solvers that do not go step by step."""
    if not isinstance(solver, DiscreteTime):
        raise TypeError(f"Argument `solver` must be a DiscreteTime, whose steps are learnt from, but is {solver!r}.")


def _driven(system: AbstractPotentialSystem, inputs: ArrayLike | None) -> AbstractPotentialSystem:
    """The system with its inputs set."""
    driven = system if inputs is None else system.with_inputs(inputs)
    assert isinstance(driven, AbstractPotentialSystem)
    return driven


def _strength(beta: float) -> float:
    if not real_array(beta, "beta", ()) != 0:
        raise ValueError("Argument `beta` must differ from 0.")
    return float(beta)


def _rates(system: AbstractSystem, rate: Rates) -> dict[str, float]:
    """eta of every parameter."""
    names = list(system.param_shapes)
    given = dict(rate) if isinstance(rate, Mapping) else dict.fromkeys(names, rate)
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"Argument `rate` must have names among {names}, but has {unknown}.")
    if bad := [name for name, value in given.items() if not real_array(value, "rate", ()) >= 0]:
        raise ValueError(f"Argument `rate` must not be negative, but is {given[bad[0]]} for {bad[0]!r}.")
    return {name: float(given.get(name, 0.0)) for name in names}


def _present(
    system: AbstractPotentialSystem,
    params: Params,
    cost: StateCost,
    target: np.ndarray | None,
    solver: DiscreteTime,
    beta: float,
    rates: dict[str, float],
) -> ContinualStep:
    """Both phases of a sample or a batch; everything is checked."""
    single = system.batch_size is None
    gains = {name: eta / beta for name, eta in rates.items()}
    term = cost.term(None, target)
    system.nudged(term, beta)  # refuses nodes that are not there
    motion, scene = motion_of(system, (term, beta))
    clock = solver.dt, solver.free_steps, solver.nudged_steps
    out = _presented(motion, reader(term))(params, system.starts(), scene.lifted() if single else scene, gains, clock)
    last, losses, residual, at_rest, relaxed = (_plain(part) for part in out)
    status = Status.OK if at_rest <= solver.tolerance and relaxed <= solver.truncation else Status.UNCONVERGED
    if not np.isfinite(relaxed) or not all(np.all(np.isfinite(value)) for value in last.values()):
        status = Status.NOT_FINITE
    return ContinualStep(
        params=last,
        displacement={name: value - params[name] for name, value in last.items()},
        loss=Estimate.exact(losses.mean()),
        losses=losses[0] if single else losses,
        beta=beta,
        rates=rates,
        residual=float(residual),
        relaxed=float(relaxed),
        solver=solver,
        status=status,
    )


@functools.lru_cache(maxsize=64)
def _presented(motion: Motion, read: Reader) -> Callable[..., Any]:
    """Both phases of a batch: last parameters, losses, free residual, and what is left of the force after both phases.

    The free residual and the last slope are compared with the nudge's force over the whole batch, whose mean is learnt.
    """
    jax = jax_float64()
    jnp = jax.numpy

    def presented(params: Any, starts: Any, scene: Scene, gains: Any, clock: Any) -> Any:
        dt, free_steps, nudged_steps = clock
        free = scene.pulled(0.0)

        def over(function: Callable[..., Any], positions: Any, acting: Scene) -> Any:
            return jax.vmap(function, in_axes=(0, acting.axes))(positions, acting)

        def moved(params: Any, positions: Any, acting: Scene, time: Any) -> Any:
            return over(lambda s, a: motion.euler(params, s, a, time), positions, acting)

        def slope(params: Any, positions: Any, acting: Scene) -> Any:
            return positions - moved(params, positions, acting, 1.0)  # a bound takes what pushes against it

        def forces(params: Any, positions: Any) -> Any:
            each = over(lambda s, a: motion.forces(params, s, a), positions, free)
            return jax.tree.map(lambda force: force.mean(axis=0), each)

        def learn(_: Any, at: Any) -> Any:
            params, positions = at
            there = moved(params, positions, scene, dt)
            before, after = forces(params, positions), forces(params, there)
            return {name: params[name] - gains[name] * (after[name] - before[name]) for name in params}, there

        rest = jax.lax.fori_loop(0, free_steps, lambda _, s: moved(params, s, free, dt), starts)
        left = slope(params, rest, free)
        force = jnp.linalg.norm(slope(params, rest, scene))
        last, ended = jax.lax.fori_loop(0, nudged_steps, learn, (params, rest))
        losses = over(lambda s, a: cost_at(read, s, a.pulls[-1][1]), rest, scene)
        residual = jnp.sqrt((left**2).reshape(len(left), -1).sum(axis=1)).max()
        return last, losses, residual, jnp.linalg.norm(left) / force, jnp.linalg.norm(slope(last, ended, scene)) / force

    return jax.jit(presented)


def _plain(tree: Any) -> Any:
    """NumPy arrays in the place of JAX ones."""
    return {name: np.asarray(value) for name, value in tree.items()} if isinstance(tree, dict) else np.asarray(tree)
