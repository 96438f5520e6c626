"""Thermal equilibria of rugged spin networks: replicas at many temperatures that change places."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.scheme import LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.system import AbstractSystem, Params
from .heat_bath import cool, covariance_response, seed_of, thermal_equilibrium
from .ising import Ising
from .spin_chains import Chains, words
from .spin_ensemble import SpinEnsemble
from .temperature import check_temperature


class ParallelTempering(AbstractSolver):
    r"""Thermal equilibrium where single spins do not get over the barriers: a ladder of temperatures.

    Every chain is a ladder of replicas at T_0 < T_1 < ... After each sweep of all of them neighbours on the ladder change
    places with probability

    .. math:: \min\left(1, e^{(1/T_k - 1/T_{k+1})(E_k - E_{k+1})}\right) ,

    even and odd pairs in turn. What is recorded is the replica at T_0, so that hot replicas carry it over the barriers.
    Ladders are independent of one another: errors, gradient rule, free energy, nudged phases and `stats` are those of
    `HeatBath`, with `stats["exchange_rate"]`, the smallest acceptance between neighbours, in addition (below 0.1 the ladder
    needs more temperatures).

    Args:
        temperatures: the ladder, ascending; the first is that of the equilibrium.
        chains: independent ladders (a sample of the batch), at least 2.
        records: configurations kept of every ladder.
        thin: sweeps between two of them.
        burn_in: sweeps before the first, the half of them while cooling, the rest with exchanges.

    Reference: K. Hukushima and K. Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996).

    Example:
        >>> import qeqprop as qp
        >>> from qeqprop.classical import Ising, ParallelTempering
        >>> net = Ising(6, [(i, i + 1) for i in range(5)])
        >>> cold = ParallelTempering([0.25, 0.5, 1.0, 2.0], records=400)
        >>> state = qp.equilibrate(net, {"J": [1.0] * 5, "h": [0.0] * 6}, solver=cold, key=0).state
        >>> bool(abs(state.expect(qp.Z(5)).mean) < 0.1)  # both orientations were met
        True
    """

    temperatures: tuple[float, ...] = eqx.field(static=True)
    chains: int = eqx.field(static=True)
    records: int = eqx.field(static=True)
    thin: int = eqx.field(static=True)
    burn_in: int = eqx.field(static=True)

    name: ClassVar[str] = "ParallelTempering"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __init__(
        self,
        temperatures: Sequence[float],
        *,
        chains: int = 64,
        records: int = 100,
        thin: int = 1,
        burn_in: int = 200,
    ):
        if isinstance(temperatures, int | float):
            raise TypeError(f"Argument `temperatures` must be a list such as [1.0, 1.5, 2.0], but is {temperatures}.")
        ladder = tuple(check_temperature(temperature) for temperature in temperatures)
        if len(ladder) < 2 or any(b <= a for a, b in itertools.pairwise(ladder)):
            raise ValueError(f"Argument `temperatures` must hold two or more values, ascending, but is {ladder}.")
        self.temperatures = ladder
        self.chains = check_count(chains, "chains", 2)
        self.records = check_count(records, "records", 2)
        self.thin = check_count(thin, "thin")
        self.burn_in = check_count(burn_in, "burn_in", 2)

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The ensemble at the lowest temperature; with an `init` by its random numbers, else with those of `key`."""
        if not isinstance(system, Ising):
            raise wrong_system(system, "ParallelTempering", "Ising networks, of pair couplings and fields")
        seed = words(key) if init is None else seed_of(init, "ParallelTempering")
        model, steps = system.model(params), len(self.temperatures)
        anneal = Chains(model, self.chains, seed)
        free, bias = cool(anneal, self.temperatures[0], self.burn_in // 2)
        begin = np.repeat(anneal.configurations(), steps, axis=-2)
        chains = Chains(model, self.chains * steps, (*seed, 1), begin, records=self.records)
        ladders = _Ladders(chains, self.temperatures, seed)
        for _ in range(self.burn_in - self.burn_in // 2):
            ladders.sweep()
        spins = np.empty((*model.fields.shape[:-1], self.chains, self.records, system.n_sites), np.int8)
        for record in range(self.records):
            for _ in range(self.thin):
                ladders.sweep()
            spins[..., record, :] = ladders.coldest()
        updates = (self.burn_in + self.records * self.thin) * spins[..., 0, :].size * steps
        found = thermal_equilibrium(SpinEnsemble(spins, seed), free, bias, updates)
        found.stats["exchange_rate"] = float(np.min(ladders.accepted / ladders.tried))
        return found

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The covariance of cost and forces over the records; `tolerance` has no meaning here."""
        assert isinstance(system, Ising)  # `solve` has refused the others
        return covariance_response(system, params, equilibrium, term, self.temperatures[0])

    def default_scheme(self, free: Equilibrium, term: Any) -> LinearResponse:
        """The covariance: less noise than any nudge, and no truncation."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase, for its random numbers."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """The ladders of all samples run side by side."""
        return True

    def __repr__(self) -> str:
        low, high = self.temperatures[0], self.temperatures[-1]
        return f"ParallelTempering({len(self.temperatures)} temperatures {low:g} .. {high:g}, chains={self.chains})"


class _Ladders:
    """Chains that carry temperatures: an exchange moves the temperatures, not the spins."""

    def __init__(self, chains: Chains, temperatures: tuple[float, ...], seed: tuple[int, ...]):
        self.chains, self.steps = chains, len(temperatures)
        self.inverse = 1 / np.array(temperatures)
        self.holder = np.broadcast_to(np.arange(self.steps), (chains.number // self.steps, self.steps)).copy()
        self.rng = np.random.default_rng((*seed, 2))
        self.accepted, self.tried, self.parity = np.zeros(self.steps - 1), np.zeros(self.steps - 1), 0

    def sweep(self) -> None:
        """One sweep of all replicas, then exchanges; `holder[l, k]` is the replica of ladder l at temperature k."""
        rung = np.argsort(self.holder, axis=1)
        self.chains.sweep(self.inverse[rung].reshape(1, *self.chains.shape))
        energies = self.chains.energies().reshape(self.holder.shape)
        by_rung = np.take_along_axis(energies, self.holder, axis=1)
        low = np.arange(self.parity, self.steps - 1, 2)
        gain = (self.inverse[low] - self.inverse[low + 1]) * (by_rung[:, low] - by_rung[:, low + 1])
        swap = self.rng.random(gain.shape) < np.exp(np.minimum(gain, 0.0))
        below, above = self.holder[:, low], self.holder[:, low + 1]
        self.holder[:, low], self.holder[:, low + 1] = np.where(swap, above, below), np.where(swap, below, above)
        self.accepted[low] += swap.sum(axis=0)
        self.tried[low] += len(swap)
        self.parity = 1 - self.parity if self.steps > 2 else 0

    def coldest(self) -> np.ndarray:
        """The configurations at the lowest temperature, int8 (..., n_ladders, n_sites)."""
        spins = self.chains.configurations().reshape(*self.holder.shape, -1)
        chosen = np.take_along_axis(spins, self.holder[:, :1, None], axis=1)
        return chosen.reshape(*self.chains.shape[:-1], -1, spins.shape[-1])
