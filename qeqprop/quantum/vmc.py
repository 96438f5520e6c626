"""Variational Monte Carlo: ground states of many spins as NetKet wave functions, and their gradients with error bars."""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.memory import memory_budget
from ..core.randomness import seed_sequence
from ..core.scheme import LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.system import AbstractSystem, Params, replaced
from .spins import AbstractSpinSystem
from .vmc_ansatz import check_vstate
from .vmc_gauge import gauged
from .vmc_phases import Phases
from .vmc_relax import RelaxationOptions
from .vmc_state import VariationalState

SAMPLES, CHAINS = 4096, 64


class VariationalMonteCarlo(AbstractSolver):
    r"""Ground states as positive wave functions psi(s) = exp(log_psi(s)), relaxed by NetKet and known through samples.

    For `TransverseFieldIsing` and every stoquastic `SpinNetwork` (all off-diagonal elements <= 0, if need be after
    X_i -> -X_i on some sites, which is found): there the ground state is positive in the Z basis, and nothing limits the
    number of spins but the ansatz. Stochastic reconfiguration (`netket.driver.VMC_SR`) brings the state close, inverse
    iteration in the tangent space of the ansatz (`vmc_polish`) takes it on until the V-score n Var(H)/(E - Tr H/2^n)^2 is at
    the target or falls no more; what stays above 5e-4 (above 25 times a higher target) is `UNCONVERGED`. Parameters are
    arguments of the compiled code: training and scans compile once.

    How the gradient is taken:

    - `LinearResponse()`, the default: the zero-variance estimator on the samples of the free state.
    - `centered(beta)` and other stencils with `correlated=True`: nudged states are fitted on the samples of the free one
      and reweighted; replicas of every phase are refitted, so that common noise cancels and the error bars see the fits.
    - the same with `correlated=False`: every phase is an optimisation with samples of its own, the textbook reference.
      Its standard errors are those of the averages alone; what the optimisations scatter, `qp.repeated_gradient` shows.
    - `full_sum=True` (or a `FullSumState`): sums over all 2^n configurations instead of samples, relaxed by Newton steps
      until the energy is stationary. Equilibrium propagation then is the exact gradient of the variational loss.

    A `LinearResponse` gradient has two errors: `stderr`, of the samples, and `truncation`, of the ansatz: the size of the
    next order of perturbation theory in E_loc - E. While the V-score is below 1e-4 an interval of
    1.96 sqrt(stderr^2 + truncation^2) to both sides covers the exact gradient in 95 of 100 cases.

    Losses, predictions and error signals of sampled states are zero-variance estimates (`vmc_controls`), and the errors of
    an error signal are part of the errors of a `LinearResponse` gradient. All of them are errors of the variational state:
    how far it is from the ground state is for the V-score to say.

    Args:
        model: a Flax (or any NetKet) model with real log psi; None chooses `vmc_models.default_model` for the graph.
        sampler: a NetKet sampler; None: single flips, and 5 % flips of all spins where the Hamiltonian is even.
        optimizer: an optax optimizer for `VMC_SR`; None: gradient descent with a decaying rate.
        n_samples: a phase; None: 4096, or those of `state`.
        n_chains: independent chains, which give the standard errors; None: 64, or those of `sampler` or `state`.
        v_score: the target.
        max_steps: of `VMC_SR` for one Hamiltonian: a state that has had them is taken as it is when it comes back as `init`;
            0 leaves every state as it is.
        polish_steps: bound on the steps of the polish of sampled states; 0: `VMC_SR` alone, down to the target.
        state: your own `netket.vqs.MCState` or `FullSumState` to start from. It is copied, not changed.
        full_sum: sum over all configurations; up to 20 spins.
        correlated: nudged phases share the samples of the free one.
        callbacks, loggers: passed to every run of the driver.
        memory: bytes that samples, their derivatives and connected configurations may take at a time; None: 90 % of what is
            free. Chunks are cut to fit; what does not fit in chunks is refused with its size.
        driver_options: further arguments of `netket.driver.VMC_SR`, such as `diag_shift` or `momentum`.
        progress: show energy, error and V-score on stderr; None: on terminals and in notebooks.

    Raises (from `solve`):
        ValueError: the Hamiltonian is not stoquastic (the message names the terms), or has no off-diagonal part.
        TypeError: the system has no spins, or the model is complex.
        MemoryError: samples and parameters that do not fit.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=3, edges=[(0, 1), (1, 2)])
        >>> params = {"J": [1.0, 1.0], "h": [0.2, 0.0, 0.1], "g": [1.0, 1.0, 1.0]}
        >>> exact = qp.VariationalMonteCarlo(full_sum=True)
        >>> ground = qp.equilibrate(net, params, solver=exact, key=0)
        >>> print(f"{float(ground.energy):.3f}", ground.state)
        -3.550 VariationalState(3 spins, LocalNetwork, 18 parameters, full sum over 8 states)

    References: S. Sorella, Phys. Rev. Lett. 80, 4558 (1998); G. Carleo and M. Troyer, Science 355, 602 (2017); F. Vicentini
    et al., SciPost Phys. Codebases 7 (2022), NetKet 3; D. Wu et al., Science 386, 296 (2024), the V-score.
    """

    model: Any = eqx.field(static=True)
    sampler: Any  # NetKet's samplers hold arrays
    options: RelaxationOptions
    n_samples: int = eqx.field(static=True)
    n_chains: int = eqx.field(static=True)
    state: Any = eqx.field(static=True)
    full_sum: bool = eqx.field(static=True)
    correlated: bool = eqx.field(static=True)
    memory: int | None = eqx.field(static=True)

    name: ClassVar[str] = "VariationalMonteCarlo"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True
    carries: ClassVar[bool] = True

    def __init__(
        self,
        *,
        model: Any = None,
        sampler: Any = None,
        optimizer: Any = None,
        n_samples: int | None = None,
        n_chains: int | None = None,
        v_score: float = 2e-6,
        max_steps: int = 300,
        polish_steps: int = 60,
        state: Any = None,
        full_sum: bool = False,
        correlated: bool = True,
        callbacks: Sequence[Callable[..., Any]] = (),
        loggers: Sequence[Any] = (),
        driver_options: Mapping[str, Any] | None = None,
        progress: bool | None = None,
        memory: int | None = None,
    ):
        _check_own(state, sampler, full_sum, model=model, n_samples=n_samples, n_chains=n_chains)
        self.n_samples = check_count(SAMPLES if n_samples is None else n_samples, "n_samples", 2)
        self.n_chains = check_count(_chains(sampler) if n_chains is None else n_chains, "n_chains")
        if self.n_samples % self.n_chains:
            raise ValueError(
                f"Argument `n_samples` must be a multiple of `n_chains`={self.n_chains}, but is {self.n_samples}: all chains "
                "are equally long."
            )
        if not 0 < v_score < np.inf:
            raise ValueError(f"Argument `v_score` must be positive, but is {v_score}.")
        self.model, self.sampler, self.state = model, sampler, state
        self.full_sum, self.correlated = bool(full_sum), bool(correlated)
        self.memory = None if memory is None else check_count(memory, "memory")
        if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
            raise TypeError(
                f"Argument `optimizer` must be an optax optimizer, such as optax.sgd(0.05), but is {optimizer!r}."
            )
        if inspect.isfunction(model):
            raise TypeError(
                f"Argument `model` must be a module, such as a flax.linen.Module or netket.models.RBM(param_dtype=float), "
                f"but is the function {model.__name__}: it has no parameters."
            )
        self.options = RelaxationOptions(
            optimizer=optimizer,
            v_score=float(v_score),
            max_steps=check_count(max_steps, "max_steps", 0),
            polish_steps=check_count(polish_steps, "polish_steps", 0),
            callbacks=tuple(callbacks),
            loggers=tuple(loggers),
            driver_options=tuple(dict(driver_options or {}).items()),
            progress=progress,
        )

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """Relax and sample. A nudged system with `init` is a nudged phase of that free equilibrium; without a nudge
        `init` is a warm start (training, scans)."""
        started = time.perf_counter()
        spins = _check_system(system)
        phases = Phases(self, spins, params, seed_sequence(key))
        if init is not None and not isinstance(init.state, VariationalState):
            raise TypeError(f"Argument `init` must hold a VariationalState, but holds a {type(init.state).__name__}.")
        if init is not None and init.state.n_sites != spins.n_sites:
            raise ValueError(f"Argument `init` must be a state of {spins.n_sites} sites, but has {init.state.n_sites}.")
        with memory_budget(self.memory):
            equilibrium = phases.nudged(init) if init is not None and spins.nudges else phases.free(init)
        return replaced(equilibrium, stats={**equilibrium.stats, "seconds": time.perf_counter() - started})

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The zero-variance linear response on the samples of the free state; see `vmc_response`."""
        from .vmc_response import respond

        state, spins = equilibrium.state, _check_system(system)
        if np.any(state.gauge < 0):  # the estimator sees a positive state, and operators in its gauge
            spins, term = _gauged_system(spins, state.gauge), _gauged_term(term, state.gauge)
            state = replaced(state, gauge=np.ones_like(state.gauge))
        with memory_budget(self.memory):
            return respond(state, spins, params, term, tolerance)

    def default_scheme(self, free: Equilibrium, term: Any) -> LinearResponse:
        """`LinearResponse()`: no nudge, hence no noise divided by beta."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free equilibrium, whose samples the nudged phases share."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One system at a time."""
        return False

    def __repr__(self) -> str:
        shown = [f"v_score={self.options.v_score:g}"]
        if self.state is not None:
            shown.append(f"state={type(self.state).__name__}")
        elif self.full_sum:
            shown.append("full_sum=True")
        else:
            shown.append(f"n_samples={self.n_samples}, n_chains={self.n_chains}")
        if self.sampler is not None:
            shown.append(f"sampler={type(self.sampler).__name__}")
        if self.model is not None:
            shown.append(f"model={type(self.model).__name__}")
        if not self.correlated:
            shown.append("correlated=False")
        if self.memory is not None:
            shown.append(f"memory={self.memory}")
        return f"VariationalMonteCarlo({', '.join(shown)})"


def _chains(sampler: Any) -> int:
    return CHAINS if sampler is None else int(getattr(sampler, "n_chains", 1))


def _check_own(state: Any, sampler: Any, full_sum: bool, **settings: Any) -> None:
    """Refuse settings that what the user brings has already, and that would be ignored."""
    if state is not None:
        check_vstate(state)
        given = [f"`{name}`" for name, value in {**settings, "sampler": sampler}.items() if value is not None]
        if given or full_sum:
            raise ValueError(
                f"Argument {', '.join([*given, *(['`full_sum`'] if full_sum else [])])} must not be given beside `state`, "
                "which has a model, a sampler and a number of samples of its own."
            )
    if full_sum and sampler is not None:
        raise ValueError("Argument `sampler` must be None with `full_sum=True`: nothing is sampled.")
    if sampler is not None and settings["n_chains"] is not None:
        raise ValueError(f"Argument `n_chains` must be None beside `sampler`, which has {_chains(sampler)} of its own.")


def _check_system(system: AbstractSystem) -> AbstractSpinSystem:
    if not isinstance(system, AbstractSpinSystem):
        raise TypeError(f"VariationalMonteCarlo solves spin networks, not {type(system).__name__}.")
    if any(np.iscomplexobj(strength) for _, strength in system.nudges):
        raise TypeError("VariationalMonteCarlo cannot follow complex nudges: use centered or richardson.")
    return system


def _gauged_term(term: Any, gauge: np.ndarray) -> Any:
    return replaced(term, observables=tuple(gauged(observable, gauge) for observable in term.observables))


def _gauged_system(system: AbstractSpinSystem, gauge: np.ndarray) -> AbstractSpinSystem:
    """The same system with every operator in the gauge."""
    return replaced(
        system,
        terms=tuple(
            (name, tuple(gauged(operator, gauge) for operator in operators)) for name, operators in system.terms
        ),
        fixed=gauged(system.fixed, gauge),
        input_terms=tuple(gauged(operator, gauge) for operator in system.input_terms),
        nudges=tuple((_gauged_term(term, gauge), strength) for term, strength in system.nudges),
    )
