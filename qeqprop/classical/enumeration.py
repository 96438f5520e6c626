"""Classical spins, exactly: sums over all 2^n configurations, block by block."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .domains import Spins
from .energy import AbstractPotentialSystem
from .ising import Ising, SpinModel
from .spin_blocks import blocks, product_sums
from .spin_distribution import SpinDistribution, configurations
from .spin_products import product_table
from .temperature import check_temperature, contrast

MAX_SPINS = 24
"""Largest number of spins of an Ising network: half a second for a gradient."""
MAX_FREE_SPINS = 20
"""Largest number of free spins with any other potential, computed of every configuration: a second for a gradient."""
SAME_LEVEL = 1e-12
"""Energies that differ by less than this, relative to the largest, are one level."""


class EnumeratedState(AbstractModule):
    """A Boltzmann distribution over all configurations.

    Means of one and two spins are kept; those of longer products are summed over all configurations when they are asked for.

    Attributes:
        pairs, couplings, fields: of the model that it is the distribution of, nudges included.
        temperature: T; at T = 0 all configurations of the lowest level are equally likely.
        level: the lowest energy, and how far above it a configuration still belongs to the level.
        spins: <s_i>, shape (n_sites,).
        correlations: <s_i s_j>, shape (n_sites, n_sites).
    """

    pairs: np.ndarray
    couplings: np.ndarray
    fields: np.ndarray
    temperature: float
    level: tuple[float, float]
    spins: np.ndarray
    correlations: np.ndarray

    _repr_html_ = display.of_state

    @property
    def n_sites(self) -> int:
        """Number of spins."""
        return len(self.fields)

    def expect(self, observable: Any) -> Estimate:
        """<O>, exact, for a Pauli sum of Z's with products of any length."""
        found = self.expect_all((observable,))
        return Estimate.exact(found.mean[0])

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """<O_k>, exact, shape (K,)."""
        table = product_table(tuple(observables))
        table.check(self.n_sites)
        masks = np.array([_mask(product) for product in table.products], dtype=np.int64)
        return Estimate.exact(table.coefficients @ self.means(masks))

    def products(self, first: np.ndarray, second: np.ndarray) -> Estimate:
        """<s_i s_j>; <s_i> where j = -1."""
        return Estimate.exact(np.where(second >= 0, self.correlations[first, second], self.spins[first]))

    def means(self, masks: np.ndarray) -> np.ndarray:
        """<prod_{i in A} s_i> for many sets A of sites; bit i of a mask is set where site i is in A."""
        found, sizes = np.ones(len(masks)), np.bitwise_count(masks)
        for k in np.flatnonzero((sizes == 1) | (sizes == 2)):
            sites = [site for site in range(self.n_sites) if masks[k] >> site & 1]
            found[k] = self.spins[sites[0]] if len(sites) == 1 else self.correlations[sites[0], sites[1]]
        if np.any(sizes > 2):
            longer, places = np.unique(masks[sizes > 2], return_inverse=True)
            model = SpinModel(self.pairs, self.couplings, self.fields, np.zeros(()))
            sums = product_sums(self.n_sites, model, self.weights, np.append(0, longer))
            found[sizes > 2] = (sums[1:] / sums[0])[places]
        return found

    def covariance(self, system: AbstractSystem, params: Params, term: Any) -> Params:
        """<C dE/dtheta> - <C> <dE/dtheta> of a cost C, shaped like the parameters."""
        assert isinstance(system, Ising)  # nothing else has this state
        forces, table = _masks(*system.force_products()), product_table(term.observables)
        costs = np.array([_mask(product) for product in table.products], dtype=np.int64)
        joint = self.means((costs[:, None] ^ forces).ravel()).reshape(len(costs), len(forces))
        apart = np.outer(self.means(costs), self.means(forces))
        return system.forces((term.weights @ table.coefficients) @ (joint - apart))

    def weights(self, energies: np.ndarray) -> np.ndarray:
        """Boltzmann factors, 1 at the lowest energy."""
        return _weights(energies, self.temperature, self.level)

    def __repr__(self) -> str:
        return f"EnumeratedState({self.n_sites} spins at T = {self.temperature:g})"


class ExactEnumeration(AbstractSolver):
    r"""Boltzmann distribution over all 2^n configurations: of an `Ising` network of at most 24 spins, or of an
    `EnergySystem` with any potential of at most 20 free `Spins`.

    The configurations are summed in blocks that stay in the cache: a fifth of a second for 24 spins, in one MiB. The limit
    beta -> 0 is a covariance,

    .. math:: \frac{d\langle A \rangle}{d\beta} = -\frac{1}{T} \left( \langle A C \rangle
              - \langle A \rangle \langle C \rangle \right) ,

    of products of spins again; of other potentials the forces of a block of configurations are one backward pass. Its
    `energy` is the free energy -T log Z.

    At T = 0 the state is the lowest configuration, which a nudge moves in jumps: the gradient is zero, and the default
    scheme is a *contrast* with a finite nudge, a learning rule that is not a gradient. There, equal lowest levels are
    refused as degenerate, and `stats["gap"]` says how far the next one is.

    Args:
        temperature: T >= 0, with k_B = 1.

    Raises (from `solve`):
        ValueError: more spins than that. TypeError: another system.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.Ising(2, [(0, 1)])
        >>> warm = qp.equilibrate(net, {"J": [1.0], "h": [0.0, 0.0]}, solver=qp.classical.ExactEnumeration(2.0))
        >>> warm.state.expect(qp.Z(0) * qp.Z(1))  # tanh(J/T)
        0.462117
    """

    temperature: float = eqx.field(static=True)

    name: ClassVar[str] = "ExactEnumeration"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, temperature: float):
        self.temperature = check_temperature(temperature, zero=True)

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The distribution; `init` is not needed."""
        spectrum = _spectrum(system, params)
        extent = [(float(energies.min()), float(energies.max())) for energies in spectrum.energies()]
        lowest = min(low for low, _ in extent)
        level = lowest, SAME_LEVEL * max(-lowest, max(high for _, high in extent), 1e-300)
        state, total = spectrum.distribution(self.temperature, level)
        stats: dict[str, Any] = {"lowest_energy": lowest + spectrum.constant}
        status, energy = Status.OK, lowest
        if self.temperature > 0:
            energy -= self.temperature * float(np.log(total))
        else:
            stats["gap"] = _next_level(spectrum, level) - lowest
            status = Status.OK if total == 1 else Status.DEGENERATE
        return Equilibrium(
            state=state,
            energy=Estimate.exact(np.asarray(energy + spectrum.constant)),
            residual=np.asarray(0.0),
            gap=None,
            status=status if np.isfinite(energy) else Status.NOT_FINITE,
            stats=stats,
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The covariance of cost and forces, exact; zero at T = 0, where the lowest state does not move."""
        if self.temperature > 0:
            joint = equilibrium.state.covariance(system, params, term)
            slope = {name: -np.asarray(value) / self.temperature for name, value in joint.items()}
        else:
            slope = {name: np.zeros(shape) for name, shape in system.param_shapes.items()}
        return Response(Estimate.exact(slope), np.asarray(0.0), Status.OK, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """The covariance; at T = 0 a contrast with the nudge 1."""
        return LinearResponse() if self.temperature > 0 else contrast(1.0)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def __repr__(self) -> str:
        return f"ExactEnumeration(temperature={self.temperature:g})"


def _weights(energies: np.ndarray, temperature: float, level: tuple[float, float]) -> np.ndarray:
    """Boltzmann factors, 1 at the lowest energy; at T = 0 of the lowest level alone."""
    lowest, width = level
    if temperature == 0:
        return np.asarray(energies <= lowest + width, dtype=float)
    return np.exp((lowest - energies) / temperature)


class _Spectrum(Protocol):
    """The energies of all configurations of a system, and their distributions."""

    @property
    def constant(self) -> float: ...

    def energies(self) -> Iterable[np.ndarray]:
        """Block by block, the constant left out."""

    def distribution(self, temperature: float, level: tuple[float, float]) -> tuple[Any, float]:
        """The state, and the sum of the Boltzmann factors relative to the lowest level."""


class _IsingSpectrum(NamedTuple):
    """By pair couplings and fields: tables of half the spins, and sums of products by their parities."""

    model: SpinModel

    @property
    def constant(self) -> float:
        return float(self.model.constant)

    def energies(self) -> Iterator[np.ndarray]:
        return (block.energies for block in blocks(len(self.model.fields), self.model))

    def distribution(self, temperature: float, level: tuple[float, float]) -> tuple[EnumeratedState, float]:
        model, n_sites = self.model, len(self.model.fields)
        first, second = np.triu_indices(n_sites, 1)
        masks = np.concatenate([[0], 1 << np.arange(n_sites), _masks(first, second)])
        sums = product_sums(n_sites, model, lambda e: _weights(e, temperature, level), masks)
        spins, products = np.split(sums[1:] / sums[0], [n_sites])
        correlations = np.eye(n_sites)
        correlations[first, second] = correlations[second, first] = products
        state = EnumeratedState(
            model.pairs, np.asarray(model.couplings), model.fields, temperature, level, spins, correlations
        )
        return state, float(sums[0])


class _PotentialSpectrum(NamedTuple):
    """By the potential of every configuration; all energies are kept."""

    frame: np.ndarray
    free: np.ndarray
    found: np.ndarray
    constant: float = 0.0

    def energies(self) -> list[np.ndarray]:
        return [self.found]

    def distribution(self, temperature: float, level: tuple[float, float]) -> tuple[SpinDistribution, float]:
        weights = _weights(self.found, temperature, level)
        total = float(weights.sum())
        return SpinDistribution(weights / total, self.frame, self.free), total


def _spectrum(system: AbstractSystem, params: Params) -> _Spectrum:
    """All energies of a system of few spins.

    Raises:
        TypeError: no spins. ValueError: too many.
    """
    if isinstance(system, Ising):
        _check_number(system.n_sites, MAX_SPINS, "use HeatBath or ParallelTempering, at T = 0 SimulatedAnnealing.")
        return _IsingSpectrum(system.model(params))
    if not (isinstance(system, AbstractPotentialSystem) and isinstance(system.domain, Spins)):
        raise wrong_system(system, "ExactEnumeration", "Ising networks and an EnergySystem with `domain=Spins()`")
    frame, free = system.start(), system.free
    _check_number(len(free), MAX_FREE_SPINS, "samplers take an `Ising`, whose potential has pair couplings alone.")
    return _PotentialSpectrum(
        frame, free, np.concatenate([system.over_points(params, states) for states in configurations(frame, free)])
    )


def _check_number(n_spins: int, most: int, advice: str) -> None:
    if n_spins > most:
        raise ValueError(f"ExactEnumeration takes at most {most} spins, but the network has {n_spins}: {advice}")


def _next_level(spectrum: _Spectrum, level: tuple[float, float]) -> float:
    """The lowest energy above a level; the level where there is no other."""
    above = sum(level)
    found = min(float(np.min(e, where=e > above, initial=np.inf)) for e in spectrum.energies())
    return found if np.isfinite(found) else level[0]


def _mask(product: tuple[int, ...]) -> int:
    return sum(1 << site for site in product)


def _masks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (1 << first) | np.where(second >= 0, 1 << np.maximum(second, 0), 0)
