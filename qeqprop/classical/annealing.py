"""Low-lying configurations by simulated annealing, forwards from random spins or in reverse from a given state."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.scheme import AbstractScheme
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .ising import Ising, SpinModel
from .spin_chains import Chains, coupling_matrix, words
from .spin_ensemble import SpinEnsemble
from .temperature import check_temperature, contrast

COLD = 0.1
"""The end of the cooling, as a part of the median strength of couplings and fields: what moves least has stopped."""
FROZEN = 1e20
"""1/T of the last sweeps, in which spins only go downhill."""
LAST_SWEEPS = 100
"""Bound on their number; a few are enough to reach a local minimum."""


class SimulatedAnnealing(AbstractSolver):
    """The lowest configuration found by cooling many reads, geometrically from `hottest` to `coldest`, then downhill.

    Nudged phases are annealed in *reverse*: every read starts at the free state, is heated to `reheat` times `hottest` and
    cooled again, so that it stays near the free state (the protocol of Laydevant et al. on a quantum annealer).

    At T = 0 what a finite nudge gives is a **contrastive** learning rule, not a gradient: the state moves in jumps, and the
    gradient of any cost is zero almost everywhere. The default scheme is the two-phase contrast at beta = 1 whose
    truncation error is NaN. Its statistical error is 0 as well: whether a lower state was missed is not a statistic;
    `stats["found"]` is the part of the reads that ended at the lowest energy.

    Args:
        sweeps: of one annealing.
        reads: annealings (a sample of the batch); the lowest is the result.
        hottest, coldest: temperatures; None takes the strongest field that a spin can meet, and a tenth of the median
            strength of couplings and fields.
        reheat: where reverse annealing begins, as a part of `hottest`.

    Reference: J. Laydevant, D. Markovic and J. Grollier, Nat. Commun. 15, 3671 (2024).

    Example:
        >>> import qeqprop as qp
        >>> from qeqprop.classical import Ising, SimulatedAnnealing
        >>> net = Ising(4, [(0, 1), (1, 2), (2, 3)])
        >>> params = {"J": [1.0, -1.0, 1.0], "h": [0.5, 0.0, 0.0, 0.0]}
        >>> qp.equilibrate(net, params, solver=SimulatedAnnealing(), key=0).state.spins.ravel()
        array([ 1,  1, -1, -1], dtype=int8)
    """

    sweeps: int = eqx.field(static=True)
    reads: int = eqx.field(static=True)
    hottest: float | None = eqx.field(static=True)
    coldest: float | None = eqx.field(static=True)
    reheat: float = eqx.field(static=True)

    name: ClassVar[str] = "SimulatedAnnealing"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def __init__(
        self,
        *,
        sweeps: int = 100,
        reads: int = 64,
        hottest: float | None = None,
        coldest: float | None = None,
        reheat: float = 0.1,
    ):
        self.sweeps = check_count(sweeps, "sweeps")
        self.reads = check_count(reads, "reads")
        self.hottest = None if hottest is None else check_temperature(hottest)
        self.coldest = None if coldest is None else check_temperature(coldest)
        if None not in (self.hottest, self.coldest) and self.hottest < self.coldest:  # type: ignore[operator]
            raise ValueError(f"Argument `hottest` must not be below `coldest`, but is {hottest} < {coldest}.")
        if not 0 < reheat <= 1:
            raise ValueError(f"Argument `reheat` must lie between 0 and 1, but is {reheat}.")
        self.reheat = float(reheat)

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The lowest state of the reads: from random spins, or in reverse from the state of `init`."""
        if not isinstance(system, Ising):
            raise wrong_system(system, "SimulatedAnnealing", "Ising networks, of pair couplings and fields")
        model = system.model(params)
        begin = None if init is None else self._begin(init, model)
        chains = Chains(model, self.reads, words(key), begin)
        chains.sweep(1 / self._temperatures(model, begin is not None))
        energies, lower = chains.energies(), True
        for _ in range(LAST_SWEEPS):
            if not lower:
                break
            before = energies
            chains.sweep(np.array([FROZEN]))
            energies = chains.energies()
            lower = bool(np.any(energies < before))
        return lowest_of(model, chains.configurations())

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Refused: at T = 0 the response is zero almost everywhere."""
        raise ValueError("SimulatedAnnealing has no linear response: the state moves in jumps.")

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """The contrast of two phases at beta = 1."""
        return contrast(1.0)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state, from which reverse annealing starts."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """The reads of all samples run side by side."""
        return True

    def __repr__(self) -> str:
        return f"SimulatedAnnealing(sweeps={self.sweeps}, reads={self.reads})"

    def _begin(self, init: Equilibrium, model: SpinModel) -> np.ndarray:
        spins = configuration_of(init)
        if spins.shape != model.fields.shape:
            raise ValueError(f"Argument `init` must have spins of shape {model.fields.shape}, but has {spins.shape}.")
        return np.repeat(spins[..., None, :], self.reads, axis=-2)

    def _temperatures(self, model: SpinModel, reverse: bool) -> np.ndarray:
        hottest, coldest = self.hottest, self.coldest
        if hottest is None:
            bonds = abs(coupling_matrix(model)).sum(axis=1)
            hottest = float(np.max(np.abs(model.fields) + bonds)) or 1.0
        if coldest is None:
            strengths = np.abs(np.concatenate([model.couplings, model.fields.ravel()]))
            typical = float(np.median(strengths[strengths > 0])) if strengths.any() else hottest
            coldest = min(COLD * typical, hottest)
        return np.geomspace(max(self.reheat * hottest, coldest) if reverse else hottest, coldest, self.sweeps)


def configuration_of(init: Equilibrium) -> np.ndarray:
    """The one configuration of an annealed state, int8 (..., n_sites)."""
    state = init.state
    if not isinstance(state, SpinEnsemble) or state.spins.shape[-3:-1] != (1, 1):
        raise TypeError(f"Argument `init` must be a single configuration (of an annealer), but its state is {state!r}.")
    return state.spins[..., 0, 0, :]


def lowest_of(model: SpinModel, spins: np.ndarray) -> Equilibrium:
    """The lowest of some reads, int8 (..., n_reads, n_sites); the equal ones are counted."""
    energies = model.energies(spins)
    best = np.argmin(energies, axis=-1)
    energy = np.take_along_axis(energies, best[..., None], axis=-1)
    scale = 1e-9 * max(1.0, float(np.abs(energy).max()))
    chosen = np.take_along_axis(spins, best[..., None, None], axis=-2)[..., None, :]
    return Equilibrium(
        state=SpinEnsemble(chosen),
        energy=Estimate.exact(energy[..., 0]),
        residual=np.zeros(energy.shape[:-1]),
        gap=None,
        status=Status.OK if np.all(np.isfinite(energy)) else Status.NOT_FINITE,
        stats={"found": float(np.mean(energies <= energy + scale)), "reads": spins.shape[-2]},
    )
