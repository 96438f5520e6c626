"""Relaxation of a variational state by stochastic reconfiguration (NetKet's `VMC_SR`), to a V-score target."""

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .vmc_energy import Hamiltonian
from .vmc_polish import implicit_polish

STEPS_BETWEEN_CHECKS = 5
LEARNING_RATE, WARM_LEARNING_RATE = 0.05, 0.02
DIAG_SHIFT, LAST_DIAG_SHIFT = 1e-2, 1e-4
POLISHABLE = 1e-2
"""V-score from which on first-order perturbation theory is a better step than imaginary time; see `vmc_polish`."""


class Relaxation(NamedTuple):
    """How a relaxation went.

    Attributes:
        steps: of `VMC_SR`.
        v_score: the last one.
        finite: whether all numbers stayed finite.
        polish_steps: of the polish.
        settled: at the target, stopped by a callback, or with nothing left that the polish could gain.
    """

    steps: int
    v_score: float
    finite: bool
    polish_steps: int = 0
    settled: bool = False


class RelaxationOptions(eqx.Module):
    """What the user of the solver may say about its relaxation; see `VariationalMonteCarlo`."""

    optimizer: Any = eqx.field(static=True)
    v_score: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    polish_steps: int = eqx.field(static=True)
    callbacks: tuple[Any, ...] = eqx.field(static=True)
    loggers: tuple[Any, ...] = eqx.field(static=True)
    driver_options: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    progress: bool | None = eqx.field(static=True)


def relax(
    vstate: Any, h: Hamiltonian, options: RelaxationOptions, *, warm: bool, least_steps: int = 0, frozen: Any = None
) -> Relaxation:
    """Minimise the energy of `vstate` in place until the V-score of its samples is at the target.

    Stochastic reconfiguration brings a sampled state close, the implicit polish to the target or to where the ansatz ends.
    A polish that fails is begun again after more steps of the former, from a ten times lower V-score.

    Args:
        vstate: a NetKet `MCState` or `FullSumState`.
        h: the Hamiltonian, in the gauge of the state.
        options: of the solver.
        warm: the state was relaxed before, for other parameters or without a nudge: smaller steps, and the polish first.
        least_steps: steps of `VMC_SR` to take even if the target is reached before.
        frozen: tree like the parameters, True for those that stay at 0; None: none.
    """
    from tqdm.auto import tqdm

    if not options.max_steps:
        return Relaxation(0, np.nan, True)
    polishing = hasattr(vstate, "sampler") and options.polish_steps > 0
    goal = max(options.v_score, POLISHABLE) if polishing else options.v_score
    evolution = Evolution(functools.partial(_driver, vstate, h, options, warm, frozen), h, options)
    bar = tqdm(
        total=options.max_steps, desc="relaxing", unit="step", leave=False,
        disable=None if options.progress is None else not options.progress,
    )  # fmt: skip

    def report(energy: float, error: float, score: float) -> None:
        bar.set_postfix_str(f"energy {energy:.6g} +- {error:.1g}, V-score {score:.1e}")

    taken, steps, score, settled = 0, 0, np.nan, False
    with bar:
        first = polishing and warm and not least_steps
        while not settled:
            if not first:
                score, settled = evolution.run(goal, least_steps, bar, report)
                steps = evolution.steps
                if not np.isfinite(score) or not polishing or settled:
                    break
            first = False
            bar.set_description("polishing")
            left = options.polish_steps - taken
            done = implicit_polish(
                vstate, h, target=options.v_score, max_steps=left, warm=warm, frozen=frozen, report=report
            )
            taken, score, settled = taken + done.steps, done.v_score, done.settled
            if not np.isfinite(score) or taken >= options.polish_steps or steps >= options.max_steps:
                break
            goal = max(goal / 10, options.v_score)
            bar.set_description("relaxing")
    return Relaxation(steps, score, bool(np.isfinite(score)), taken, settled)


class Evolution:
    """Steps of stochastic reconfiguration, with NetKet's driver, in portions that end at a V-score."""

    def __init__(self, make_driver: Callable[[], Any], h: Hamiltonian, options: RelaxationOptions):
        self.make_driver, self.h, self.options = make_driver, h, options
        self.record: list[tuple[float, float, float]] = []

    @functools.cached_property
    def driver(self) -> Any:
        """Made when it is needed: a warm start that the polish settles takes no steps."""
        return self.make_driver()

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self.driver.step_count)

    def run(
        self, goal: float, least_steps: int, bar: Any, report: Callable[[float, float, float], None]
    ) -> tuple[float, bool]:
        """Go on to the V-score `goal`, or to the bound on the steps.

        Returns:
            The mean V-score of the last steps (NaN where a number was not finite), and whether a callback said stop.
        """
        score = np.inf
        while (taken := self.steps) < self.options.max_steps:
            wanted = min(STEPS_BETWEEN_CHECKS, self.options.max_steps - taken)
            callbacks = (_recorder(self.record), *self.options.callbacks)
            self.driver.run(wanted, out=self.options.loggers, callback=callbacks, show_progress=False)
            energies, errors, variances = np.array(self.record[-wanted:]).T
            if not np.all(np.isfinite(energies)) or not np.all(np.isfinite(variances)):
                return float("nan"), False
            score = self.h.v_score(float(energies.mean()), float(variances.mean()))
            bar.update(self.steps - taken)
            report(float(energies[-1]), float(errors[-1]), score)
            if self.steps < taken + wanted:
                return score, True
            if score <= goal and self.steps >= least_steps:
                break
        return score, False


def _recorder(record: list[tuple[float, float, float]]) -> Callable[[int, dict[str, Any], Any], bool]:
    def keep(step: int, log: dict[str, Any], driver: Any) -> bool:
        stats = log["Energy"]
        mean, error, variance = (float(np.real(value)) for value in (stats.mean, stats.error_of_mean, stats.variance))
        record.append((mean, error, variance))
        return True

    return keep


def _driver(vstate: Any, h: Hamiltonian, options: RelaxationOptions, warm: bool, frozen: Any) -> Any:
    import netket
    import optax

    from .vmc_netket import JaxSpinOperator

    exact = not hasattr(vstate, "sampler")
    shift: Any = LAST_DIAG_SHIFT * 10
    if not warm:
        half = max(options.max_steps // 2, 1)
        shift = optax.exponential_decay(DIAG_SHIFT, half, LAST_DIAG_SHIFT / DIAG_SHIFT, end_value=LAST_DIAG_SHIFT)
    optimizer = _optimizer(options.optimizer, None if warm else options.max_steps, frozen is not None)
    chosen = {
        "diag_shift": shift,
        "mode": "real",
        "use_ntk": not exact and vstate.n_parameters > vstate.n_samples,
        "on_the_fly": False,
        **dict(options.driver_options),
    }
    operator = JaxSpinOperator(vstate.hilbert, h.table, h.coefficients)
    with contextlib.redirect_stdout(io.StringIO()):  # NetKet prints what it chose
        return netket.driver.VMC_SR(operator, optimizer, variational_state=vstate, **chosen)


@functools.lru_cache(maxsize=32)
def _optimizer(chosen: Any, steps: int | None, even: bool) -> Any:
    """The user's optimizer or gradient descent, at rates that fall over `steps` where they are given.

    One object for every setting: NetKet compiles an update anew for every optimizer that it has not met.
    """
    import optax

    from .vmc_models import odd_parameters

    rate: Any = WARM_LEARNING_RATE if steps is None else optax.cosine_decay_schedule(LEARNING_RATE, steps, 0.1)
    optimizer = optax.sgd(rate) if chosen is None else chosen
    return optax.chain(optimizer, optax.masked(optax.set_to_zero(), odd_parameters)) if even else optimizer


def reseed(vstate: Any, seed: int) -> None:
    """Fresh random numbers for the chains, which stay where they are."""
    import netket

    vstate.sampler_state = vstate.sampler_state.replace(rng=netket.jax.PRNGKey(seed))
    vstate.reset()
