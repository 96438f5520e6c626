"""Relaxation of a variational state by stochastic reconfiguration (NetKet's `VMC_SR`), to a V-score target."""

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .vmc_energy import Hamiltonian

STEPS_BETWEEN_CHECKS = 5
LEARNING_RATE, WARM_LEARNING_RATE = 0.05, 0.02
DIAG_SHIFT, LAST_DIAG_SHIFT = 1e-2, 1e-4


class Relaxation(NamedTuple):
    """How a relaxation went: steps taken, mean V-score of the last steps, and whether all numbers stayed finite."""

    steps: int
    v_score: float
    finite: bool


class RelaxationOptions(eqx.Module):
    """What the user of the solver may say about its relaxation; see `VariationalMonteCarlo`."""

    optimizer: Any = eqx.field(static=True)
    v_score: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    callbacks: tuple[Any, ...] = eqx.field(static=True)
    loggers: tuple[Any, ...] = eqx.field(static=True)
    driver_options: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    progress: bool | None = eqx.field(static=True)


def relax(
    vstate: Any, h: Hamiltonian, options: RelaxationOptions, *, warm: bool, least_steps: int = 0, frozen: Any = None
) -> Relaxation:
    """Minimise the energy of `vstate` in place until the V-score of its samples is at the target.

    Args:
        vstate: a NetKet `MCState` or `FullSumState`.
        h: the Hamiltonian, in the gauge of the state.
        options: of the solver.
        warm: the state was relaxed before, for other parameters or without a nudge: smaller steps.
        least_steps: steps to take even if the target is reached before.
        frozen: tree like the parameters, True for those that stay at 0; None: none.
    """
    from tqdm.auto import tqdm

    driver = _driver(vstate, h, options, warm, frozen)
    record: list[tuple[float, float, float]] = []
    bar = tqdm(
        total=options.max_steps, desc="relaxing", unit="step", leave=False,
        disable=None if options.progress is None else not options.progress,
    )  # fmt: skip
    score = np.inf
    with bar:
        while (taken := driver.step_count) < options.max_steps:
            wanted = min(STEPS_BETWEEN_CHECKS, options.max_steps - taken)
            callbacks = (_recorder(record), *options.callbacks)
            driver.run(wanted, out=options.loggers, callback=callbacks, show_progress=False)
            energies, errors, variances = np.array(record[-wanted:]).T
            if not np.all(np.isfinite(energies)) or not np.all(np.isfinite(variances)):
                return Relaxation(driver.step_count, float("nan"), False)
            score = h.v_score(float(energies.mean()), float(variances.mean()))
            bar.update(driver.step_count - taken)
            bar.set_postfix_str(f"energy {energies[-1]:.6g} +- {errors[-1]:.1g}, V-score {score:.1e}")
            stopped = driver.step_count < taken + wanted  # by a callback
            if stopped or (score <= options.v_score and driver.step_count >= least_steps):
                break
    return Relaxation(driver.step_count, score, True)


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
