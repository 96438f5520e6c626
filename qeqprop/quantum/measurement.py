"""`Measured`: what an experiment sees of the equilibria that a solver prepares."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.memory import check_memory
from ..core.randomness import branch, seed_sequence
from ..core.scheme import LinearResponse, Stencil, centered
from ..core.solver import AbstractSolver, Equilibrium, Response, describe
from ..core.status import EquilibriumError, Status
from ..core.system import AbstractSystem, Params, replaced
from .commuting import check_bases, commuting_bases, covers, read_table, single_bases
from .conversion import write_label
from .gaussian_state import GaussianState
from .measured_oscillators import MeasuredOscillators, read_oscillators
from .measured_state import MeasuredState
from .oscillators import HarmonicNetwork
from .readout import check_readout, flipped, site_rates
from .shots import draw, n_spins, probabilities
from .spins import AbstractSpinSystem

LARGEST_RATIO = 0.09
"""beta*||C||/gap of the default scheme at most: no warning is due below 0.1."""
_GROUPINGS = {"commuting": commuting_bases, "single": single_bases}


class Measured(AbstractSolver):
    r"""Equilibria seen through shots: real bit strings (positions, momenta) drawn from the states of another solver.

    Every phase is prepared anew for every shot of every setting. A setting reads each site in X, Y or Z, and its shots
    give all strings that agree with it: the forces of a transverse-field Ising network need two settings, whatever its
    size; a harmonic network one (positions), or two where masses are trained. Forces, costs and error signals are means
    over shots, with standard errors that keep the covariances within a setting.

    With M shots a setting the variance of a gradient component with force A is

    .. math:: [Var_\beta(A) + Var_{-\beta}(A)] / (4 M \beta^2), \qquad [Var_\beta(A) + Var_0(A)] / (M \beta^2)

    for centered and one-sided nudges. `qp.optimal_nudge` balances it against the truncation error.

    An `ExpectationCost` takes its error signal dL/d<O> from the shots of the free phase, as an experiment must. The
    standard error of *one* gradient is that of the forces at this signal. For a squared error the signal is linear in
    the outputs and its noise averages out; how much it adds, `qp.repeated_gradient` measures. `outputs="exact"` takes
    the signal from the prepared state: an idealisation that leaves the noise of the forces alone.

    Energy, gap and residual of the equilibria are those of the prepared states: only a simulation knows them.

    Args:
        solver: prepares the states: `ExactDiagonalization`, `GibbsState`, `GaussianGroundState`, ...
        shots: of each setting, in every phase.
        bases: "commuting": few settings for the strings of the forces (and of the nudge, where there is one), greedily
            grouped; "single": one for each string; or a list of settings, as letters ("ZZX") or as lists of Pauli sums
            to be read together. For oscillators ["R"] or ["R", "P"].
        readout_error: probability that a bit is read wrongly, a pair (0 read as 1, 1 read as 0), or an array of pairs
            (n_sites, 2). None: no errors.
        mitigate: undo the read-out errors on average, by the inverse confusion matrix of every site; the standard
            errors grow. Without it the gradient is biased.
        outputs: "measured" or "exact": where the error signal comes from.

    Raises (from `solve`):
        ValueError: the settings do not read all forces. TypeError: a state that cannot be read.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> solver = qp.Measured(qp.ExactDiagonalization(), shots=10_000)
        >>> out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(1)), solver=solver, scheme=qp.centered(0.1), key=1)
        >>> out.free.state
        MeasuredState(2 spins, 10000 shots in each of 2: ZZ, XX)
        >>> qp.Estimate(out.grad["g"], out.stderr["g"])  # exact: -0.231, -0.250
        [-0.22(4), -0.27(3)]
    """

    solver: AbstractSolver
    shots: int = eqx.field(static=True)
    bases: str | tuple[str, ...] = eqx.field(static=True)
    readout_error: np.ndarray | None
    mitigate: bool = eqx.field(static=True)
    outputs: str = eqx.field(static=True)

    name: ClassVar[str] = "Measured"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def __init__(
        self,
        solver: AbstractSolver,
        shots: int = 1000,
        *,
        bases: str | Sequence[Any] = "commuting",
        readout_error: Any = None,
        mitigate: bool = True,
        outputs: str = "measured",
    ):
        if not isinstance(solver, AbstractSolver) or isinstance(solver, Measured):
            raise TypeError(
                f"Argument `solver` must be a solver that prepares states, such as ExactDiagonalization(), but is "
                f"{solver!r}."
            )
        if outputs not in ("measured", "exact"):
            raise ValueError(f"Argument `outputs` must be 'measured' or 'exact', but is {outputs!r}.")
        self.solver = solver
        self.shots = check_count(shots, "shots", 2)
        self.bases = bases if isinstance(bases, str) and bases in _GROUPINGS else check_bases(bases)
        self.readout_error = check_readout(readout_error, mitigate)
        self.mitigate = bool(mitigate)
        self.outputs = outputs

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """Prepare the equilibrium with the inner solver, and read it."""
        seed = seed_sequence(key)
        preparation = branch(seed, 0) if self.solver.stochastic else None
        prepared = self.solver.solve(system, params, init=_prepared(init), key=preparation)
        if prepared.status == Status.NOT_FINITE:
            raise EquilibriumError(prepared.status, f"nothing to measure, {describe(prepared)}")
        state = self._read(system, prepared.state, seed)
        samples = max(1, int(np.size(prepared.energy.mean)))
        stats = {
            **prepared.stats,
            "settings": len(state.bases),
            "shots": self.shots,
            "preparations": len(state.bases) * self.shots * samples,
        }
        return replaced(prepared, state=state, stats=stats)

    def _read(
        self, system: AbstractSystem, state: Any, seed: np.random.SeedSequence
    ) -> MeasuredState | MeasuredOscillators:
        exact = self.outputs == "exact"
        if isinstance(state, GaussianState) and isinstance(system, HarmonicNetwork):
            bases = self._oscillator_bases(system)
            self._check_memory(2 * state.mean.size, 24)
            return read_oscillators(state, bases, self.shots, _generators(seed, 2), exact)
        n_sites = n_spins(state)
        assert isinstance(system, AbstractSpinSystem)  # only these have states with sites
        bases = self._spin_bases(system)
        rates = None if self.readout_error is None else site_rates(self.readout_error, n_sites)
        samples = system.batch_size or 1
        self._check_memory(len(bases) * samples, 4 * np.min_scalar_type((1 << n_sites) - 1).itemsize)
        outcomes = []
        for basis, rng in zip(bases, _generators(seed, len(bases)), strict=True):
            drawn = draw(probabilities(state, basis), self.shots, rng)
            outcomes.append(drawn if rates is None else flipped(drawn, rates, rng))
        return MeasuredState(n_sites, bases, np.stack(outcomes), rates if self.mitigate else None, state, exact)

    def _spin_bases(self, system: AbstractSpinSystem) -> tuple[str, ...]:
        forces = tuple(operator for _, operators in system.terms for operator in operators)
        wanted = forces + tuple(observable for term, _ in system.nudges for observable in term.observables)
        if isinstance(self.bases, str):
            return _GROUPINGS[self.bases](wanted, system.n_sites)
        for basis in self.bases:
            if len(basis) > system.n_sites or set(basis) & set("RP"):
                raise ValueError(
                    f"Argument `bases` must have one letter X, Y, Z or I for each of the {system.n_sites} sites, but "
                    f"has {basis!r}."
                )
        bases = tuple(basis.ljust(system.n_sites, "I") for basis in self.bases)
        for string in read_table(wanted).strings:
            if not any(covers(basis, string) for basis in bases):
                raise ValueError(
                    f"Argument `bases` must read all forces and costs, but none of {list(bases)} reads "
                    f"{write_label(*string)}. 'commuting' would take {list(commuting_bases(wanted, system.n_sites))}."
                )
        return bases

    def _oscillator_bases(self, system: HarmonicNetwork) -> tuple[str, ...]:
        if self.readout_error is not None:
            raise ValueError("Argument `readout_error` must be None: it flips bits, and oscillators have none.")
        nudges = [observable for term, _ in system.nudges for observable in term.observables]
        moving = "m" in system.trainable or any(v[0] == "P" for o in nudges for monomial, _ in o for v in monomial)
        needed = ("R", "P") if moving else ("R",)
        if self.bases == "commuting":
            return needed
        if self.bases not in (("R",), ("R", "P")) or len(self.bases) < len(needed):
            raise ValueError(
                f"Argument `bases` must be 'commuting' or {list(needed)} for these oscillators, but is {self.bases!r}."
            )
        return tuple(self.bases)

    def _check_memory(self, numbers: int, size: int) -> None:
        check_memory(size * numbers * self.shots, f"Drawing {numbers} x {self.shots} readings", "Use fewer shots.")

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Refused: a measurement sees nudged states, not their limit."""
        raise TypeError("Measured has no linear response: use a stencil such as centered(beta).")

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """centered(beta) with beta from the number of shots, for a state that bends on the scale gap/||C||.

        With unit variances and the curvature (||C||/gap)^2 of first-order perturbation theory the errors meet at
        beta ||C||/gap = (16 M)^(-1/6), cut at 0.09. `qp.optimal_nudge` measures both instead.

        Raises:
            ValueError: no gap, or an unbounded cost: there is no scale to choose beta from.
        """
        gap, norm = free.worst()[1], float(np.max(term.norm_bound()))
        if gap is None or not 0 < norm < np.inf:
            raise ValueError(
                f"Argument `scheme` must be given: {self} knows no scale for the nudge (gap {gap}, ||C|| {norm:g}). "
                "Use centered(beta), with beta from qp.optimal_nudge(..., pilot=...)."
            )
        return centered(min((16 * self.shots) ** (-1 / 6), LARGEST_RATIO) * max(gap, 1e-12) / norm)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """As the inner solver does, from the prepared states."""
        start: Any = {b: _prepared(phase) for b, phase in phases.items()}
        return self.solver.extrapolate(start, strength)

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Where the inner solver does: the samples are prepared in one call, each with its own shots."""
        return self.solver.accepts_batch(system)

    def __repr__(self) -> str:
        options = [] if self.bases == "commuting" else [f"bases={self.bases!r}"]
        if self.readout_error is not None:
            options.append("readout_error " + ("mitigated" if self.mitigate else "not mitigated"))
        if self.outputs == "exact":
            options.append("outputs='exact'")
        return f"Measured({', '.join([repr(self.solver), f'shots={self.shots}', *options])})"


def _prepared(equilibrium: Equilibrium | None) -> Equilibrium | None:
    """The equilibrium that was measured, to start another solve from."""
    if equilibrium is not None and isinstance(equilibrium.state, MeasuredState | MeasuredOscillators):
        return replaced(equilibrium, state=equilibrium.state.prepared)
    return equilibrium


def _generators(seed: np.random.SeedSequence, count: int) -> list[np.random.Generator]:
    """Independent random numbers for every setting."""
    return [np.random.default_rng(branch(seed, 1, k)) for k in range(count)]
