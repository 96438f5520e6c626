"""The phases of variational Monte Carlo: relax, sample, judge."""

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.memory import check_memory
from ..core.precision import jax_float64
from ..core.randomness import branch
from ..core.solver import Equilibrium
from ..core.status import Status
from ..core.system import Params, replaced
from .spins import AbstractSpinSystem
from .vmc_ansatz import check_vstate, even_under_flip, frozen_parameters, make_full_sum, make_sampled
from .vmc_controls import LEAST_SAMPLES
from .vmc_devices import on_every_process
from .vmc_energy import Hamiltonian, Moments, moments, reflected_variance
from .vmc_fit import nudged_state
from .vmc_gauge import gauged, sign_gauge
from .vmc_newton import polish
from .vmc_operator import spin_operator
from .vmc_relax import Relaxation, relax, reseed
from .vmc_state import VariationalState, local_strings, log_amplitudes

if TYPE_CHECKING:
    from .vmc import VariationalMonteCarlo

TOLERATED, LEAST_TOLERATED = 25.0, 5e-4
"""V-scores above so many times the target, and above this one, are unconverged: a low target asks for what the ansatz gives."""
NUDGED_STEPS = 50
"""Steps that an independent nudged phase takes at least: the free state may be at the target already."""
LAST_STEP = 5e-3
"""Largest share of its distance from the free state that the last step of a fitted phase may have made."""
GRADIENT = 1e-7
"""Largest norm of the energy gradient that a full sum may keep, relative to |E|."""
FULL_SUM_SITES = 20


class Phases:
    """The phases of one system at some parameters: free and nudged, with a seed."""

    def __init__(
        self, solver: "VariationalMonteCarlo", system: AbstractSpinSystem, params: Params, seed: np.random.SeedSequence
    ):
        self.solver, self.system, self.params, self.seed = solver, system, params, seed
        self.strengths = system.strengths(params)
        self.pauli = system.pauli_sum(params)
        if self.pauli.is_diagonal:
            raise ValueError(
                "This Hamiltonian is diagonal: its ground state is one configuration, which no Monte Carlo of positive wave "
                "functions can hold. Add a transverse field, or minimise it classically."
            )

    def hamiltonian(self, gauge: np.ndarray) -> Hamiltonian:
        table = spin_operator(self.system.operators(), self.system.n_sites, gauge)
        return Hamiltonian(table, table.coefficients(self.strengths), float(np.real(self.pauli.constant)))

    def integer_seed(self, *path: int) -> int:
        child = branch(self.seed, *path)
        assert child is not None
        return int(child.generate_state(1)[0])

    def free(self, init: Equilibrium | None) -> Equilibrium:
        """A free phase, from scratch or from another equilibrium."""
        gauge = sign_gauge(self.pauli, self.system.n_sites)
        h = self.hamiltonian(gauge)
        vstate = self._start(init)
        started = init is not None or self.solver.state is not None  # from something that may be good already
        if hasattr(vstate, "sampler") and started:
            reseed(vstate, self.integer_seed(1))
        done = self._relaxation_of(init)
        if not done.settled and not (started and self._at_target(vstate, h, gauge)):
            done = self._relaxed(vstate, h, warm=init is not None, least_steps=0, had=done.steps)
        return self._equilibrium(vstate, h, gauge, done)

    def _at_target(self, vstate: Any, h: Hamiltonian, gauge: np.ndarray) -> bool:
        """Whether no step need be taken; the polish of sampled states begins with looking for itself."""
        options = self.solver.options
        if hasattr(vstate, "sampler") and options.polish_steps and options.max_steps:
            return False
        return h.v_score(*moments(h, _measured(vstate, gauge))[::2]) <= options.v_score

    def _relaxation_of(self, init: Equilibrium | None) -> Relaxation:
        """How `init` has been relaxed for this very Hamiltonian: its steps count, and settled it stays."""
        if init is None or init.state.controls is None or init.state.controls.hamiltonian != self.pauli:
            return Relaxation(0, np.nan, True)
        steps, polish_steps, settled = (init.stats.get(name, 0) for name in ("steps", "polish_steps", "settled"))
        return Relaxation(int(steps), np.nan, True, int(polish_steps), bool(settled))

    def nudged(self, free: Equilibrium) -> Equilibrium:
        """A nudged phase of a free equilibrium."""
        gauge = free.state.gauge
        if np.any(sign_gauge(gauged(self.pauli, gauge), self.system.n_sites) < 0):
            raise ValueError(
                "The nudge turns the sign of an off-diagonal element: the nudged ground state has another sign structure "
                "than the free one. Use a smaller beta, or LinearResponse()."
            )
        h = self.hamiltonian(gauge)
        vstate = copy.copy(free.state.vstate)
        if free.state.is_exact or not self.solver.correlated:
            if not free.state.is_exact:
                reseed(vstate, self.integer_seed(1))
            done = self._relaxed(vstate, h, warm=True, least_steps=NUDGED_STEPS)
            return self._equilibrium(vstate, h, gauge, done, free.state)
        unnudged = self.strengths.copy()
        unnudged[-len(self.system.nudges[-1][0].observables) :] = 0.0
        state, left = nudged_state(free.state, vstate, h, h.table.coefficients(unnudged))
        return self._summary(state, h, Relaxation(0, np.nan, True), free.state, {"last_step": left})

    def _start(self, init: Equilibrium | None) -> Any:
        if init is not None:
            return copy.copy(init.state.vstate)
        if self.solver.state is not None:
            check_vstate(self.solver.state, self.system.n_sites)
            return copy.copy(self.solver.state)
        seed = self.integer_seed(0)
        if self.solver.full_sum:
            if self.system.n_sites > FULL_SUM_SITES:
                raise ValueError(
                    f"Argument `full_sum` must be False above {FULL_SUM_SITES} spins, but the system has "
                    f"{self.system.n_sites}."
                )
            return make_full_sum(self.system, self.solver.model, seed)
        return make_sampled(
            self.system,
            self.pauli,
            self.solver.model,
            self.solver.sampler,
            self.solver.n_samples,
            self.solver.n_chains,
            seed,
        )

    def _relaxed(self, vstate: Any, h: Hamiltonian, warm: bool, least_steps: int, had: int = 0) -> Relaxation:
        """`had`: steps taken before for the same Hamiltonian, of the `max_steps` that it gets."""
        if had >= self.solver.options.max_steps:
            return Relaxation(had, np.nan, True)
        _check_memory(vstate)
        frozen = frozen_parameters(vstate) if even_under_flip(self.pauli) else None
        if frozen is not None:
            vstate.parameters = jax_float64().tree.map(
                lambda leaf, odd: 0 * leaf if odd else leaf, vstate.parameters, frozen
            )
        if not hasattr(vstate, "sampler") and warm:
            return Relaxation(0, np.nan, True)  # Newton steps do the rest
        options = replaced(self.solver.options, max_steps=self.solver.options.max_steps - had)
        done = relax(vstate, h, options, warm=warm, least_steps=least_steps, frozen=frozen)
        return done._replace(steps=had + done.steps)

    def _equilibrium(
        self, vstate: Any, h: Hamiltonian, gauge: np.ndarray, done: Relaxation, free: VariationalState | None = None
    ) -> Equilibrium:
        stats: dict[str, Any] = {}
        if not hasattr(vstate, "sampler"):
            newton = polish(vstate, h)
            stats = {"newton_steps": newton.steps, "energy_gradient": newton.gradient}
        else:
            vstate.reset()  # the samples that ended a relaxation were found good, and miss what is rare more often than others
        state = _measured(vstate, gauge)
        if done.finite and not state.is_exact and int(np.prod(state.samples.shape[:2])) >= LEAST_SAMPLES:
            state = state.controlled(self.pauli)
        return self._summary(state, h, done, free, stats)

    def _summary(
        self,
        state: VariationalState,
        h: Hamiltonian,
        done: Relaxation,
        free: VariationalState | None,
        extra: dict[str, Any],
    ) -> Equilibrium:
        seen = moments(h, state)
        score = h.v_score(seen.energy, seen.variance)
        stats = {
            "v_score": score,
            "energy_variance": seen.variance,
            "steps": done.steps,
            "polish_steps": done.polish_steps,
            "settled": done.settled,
            "parameters": state.vstate.n_parameters,
            **extra,
        }
        if not state.is_exact and np.isfinite(score):
            stats |= _sampling_stats(state, h)
            stats["expectations"] = "zero variance" if state.controls is not None else "plain means: few samples"
        if free is not None:
            stats["overlap_with_free"] = _overlap(free, state)
        return Equilibrium(
            state=state,
            energy=self.system.energy(self.params, state),
            residual=np.asarray(np.sqrt(seen.variance)),
            gap=None,
            status=self._status(state, h, seen, stats) if done.finite else Status.NOT_FINITE,
            stats=stats,
        )

    def _status(self, state: VariationalState, h: Hamiltonian, seen: Moments, stats: dict[str, Any]) -> Status:
        score, last_step = stats["v_score"], stats.get("last_step", 0.0)
        if not (np.isfinite(score) and np.isfinite(last_step)):
            return Status.NOT_FINITE
        most = max(TOLERATED * self.solver.options.v_score, LEAST_TOLERATED)
        stationary = stats.get("energy_gradient", 0.0) <= GRADIENT * max(1.0, abs(seen.energy))
        if score > most or last_step > LAST_STEP or not stationary:
            return Status.UNCONVERGED
        if not state.is_exact and state.reference is None:
            rng = np.random.default_rng(branch(self.seed, 2))
            hidden = h.v_score(seen.energy, reflected_variance(h, state, seen.energy, rng))
            if not hidden <= max(2 * most, 100 * score):  # a collapsed state: its variance hides where it never goes
                return Status.UNCONVERGED
        return Status.BRANCH_JUMP if stats.get("overlap_with_free", 1.0) < 0.5 else Status.OK


def _check_memory(vstate: Any) -> None:
    rows = vstate.n_samples if hasattr(vstate, "sampler") else vstate.hilbert.n_states
    needed = 3 * 8 * vstate.n_parameters * (rows + min(rows, vstate.n_parameters))
    check_memory(
        needed, f"Relaxing {vstate.n_parameters} parameters on {rows} samples", "Use fewer samples or a smaller model."
    )


def _measured(vstate: Any, gauge: np.ndarray) -> VariationalState:
    """The state with its samples; they are drawn here where the variables have changed."""
    jax_float64()
    samples = on_every_process(vstate.samples) if hasattr(vstate, "sampler") else vstate.hilbert.all_states()[None]
    return VariationalState(vstate.hilbert.size, vstate, gauge, samples)


def _overlap(free: VariationalState, state: VariationalState) -> float:
    """|<psi_0|psi>|^2 from the samples of the free state."""
    sigma = free.samples.reshape(-1, free.n_sites)
    new, old = (log_amplitudes(free.log_psi, each.variables, sigma) for each in (state, free))
    logs = new - old
    ratio = np.exp(logs - logs.max())
    weights = np.full(len(ratio), 1 / len(ratio)) if free.weights is None else free.weights
    return float((weights @ ratio) ** 2 / (weights @ ratio**2))


def _sampling_stats(state: VariationalState, h: Hamiltonian) -> dict[str, Any]:
    """What the chains say about themselves: the worst of the energy and of all strings."""
    import netket

    found: dict[str, Any] = {"samples": int(np.prod(state.samples.shape[:2])), "effective": state.effective_samples}
    if state.reference is not None:
        return found
    acceptance = getattr(state.vstate.sampler_state, "acceptance", None)
    if acceptance is not None:
        found["acceptance"] = float(acceptance)
    if state.samples.shape[0] > 1 and state.samples.shape[1] > 1:
        jax = jax_float64()
        local = local_strings(state.log_psi, state.variables, h.table, state.samples.reshape(-1, state.n_sites))
        channels = local.reshape(*state.samples.shape[:2], -1)
        stats = jax.vmap(netket.stats.statistics, in_axes=-1)(channels)
        moving = np.asarray(stats.variance) > 0  # a constant channel has neither
        for name, values in (("worst_r_hat", stats.R_hat), ("worst_tau", stats.tau_corr)):
            found[name] = float(np.max(np.asarray(values)[moving], initial=0.0))
    return found
