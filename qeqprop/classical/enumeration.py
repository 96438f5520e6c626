"""Classical spins, exactly: sums over all 2^n configurations, block by block."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .ising import Ising, SpinModel
from .spin_blocks import blocks, product_sums
from .spin_products import product_table
from .temperature import check_temperature, contrast

MAX_SPINS = 24
"""Largest number of spins: half a second for a gradient."""
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

    def weights(self, energies: np.ndarray) -> np.ndarray:
        """Boltzmann factors, 1 at the lowest energy."""
        return _weights(energies, self.temperature, self.level)

    def __repr__(self) -> str:
        return f"EnumeratedState({self.n_sites} spins at T = {self.temperature:g})"


class ExactEnumeration(AbstractSolver):
    r"""Boltzmann distribution over all 2^n configurations, at most 24 spins.

    The configurations are summed in blocks that stay in the cache: a fifth of a second for 24 spins, in one MiB. The limit
    beta -> 0 is a covariance,

    .. math:: \frac{d\langle A \rangle}{d\beta} = -\frac{1}{T} \left( \langle A C \rangle
              - \langle A \rangle \langle C \rangle \right) ,

    of products of spins again. Its `energy` is the free energy -T log Z.

    At T = 0 the state is the lowest configuration, which a nudge moves in jumps: the gradient is zero, and the default
    scheme is a *contrast* with a finite nudge, a learning rule that is not a gradient. There, equal lowest levels are
    refused as degenerate, and `stats["gap"]` says how far the next one is.

    Args:
        temperature: T >= 0, with k_B = 1.

    Raises (from `solve`):
        ValueError: more than 24 spins.

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
        if not isinstance(system, Ising):
            raise TypeError(f"ExactEnumeration solves Ising networks, not {type(system).__name__}.")
        if system.n_sites > MAX_SPINS:
            raise ValueError(
                f"ExactEnumeration takes at most {MAX_SPINS} spins, but the network has {system.n_sites}: use HeatBath "
                "or ParallelTempering, at T = 0 SimulatedAnnealing."
            )
        model, n_sites = system.model(params), system.n_sites
        extent = [(float(block.energies.min()), float(block.energies.max())) for block in blocks(n_sites, model)]
        lowest = min(low for low, _ in extent)
        level = lowest, SAME_LEVEL * max(-lowest, max(high for _, high in extent), 1e-300)
        first, second = np.triu_indices(n_sites, 1)
        masks = np.concatenate([[0], 1 << np.arange(n_sites), _masks(first, second)])
        sums = product_sums(n_sites, model, lambda e: _weights(e, self.temperature, level), masks)
        spins, products = np.split(sums[1:] / sums[0], [n_sites])
        correlations = np.eye(n_sites)
        correlations[first, second] = correlations[second, first] = products
        stats: dict[str, Any] = {"lowest_energy": lowest + float(model.constant)}
        status, energy = Status.OK, lowest
        if self.temperature > 0:
            energy -= self.temperature * float(np.log(sums[0]))
        else:
            stats["gap"] = _next_level(n_sites, model, level) - lowest
            status = Status.OK if sums[0] == 1 else Status.DEGENERATE
        return Equilibrium(
            state=EnumeratedState(
                model.pairs, np.asarray(model.couplings), model.fields, self.temperature, level, spins, correlations
            ),
            energy=Estimate.exact(np.asarray(energy + float(model.constant))),
            residual=np.asarray(0.0),
            gap=None,
            status=status if np.isfinite(energy) else Status.NOT_FINITE,
            stats=stats,
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The covariance of cost and forces, exact; zero at T = 0, where the lowest state does not move."""
        assert isinstance(system, Ising)  # `solve` has refused the others
        state, forces = equilibrium.state, _masks(*system.force_products())
        slope = np.zeros(len(forces))
        if self.temperature > 0:
            table = product_table(term.observables)
            costs = np.array([_mask(product) for product in table.products], dtype=np.int64)
            joint = state.means((costs[:, None] ^ forces).ravel()).reshape(len(costs), len(forces))
            apart = np.outer(state.means(costs), state.means(forces))
            slope = -(term.weights @ table.coefficients) @ (joint - apart) / self.temperature
        return Response(Estimate.exact(system.forces(slope)), np.asarray(0.0), Status.OK, {})

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


def _next_level(n_sites: int, model: SpinModel, level: tuple[float, float]) -> float:
    """The lowest energy above a level; the level where there is no other."""
    above = sum(level)
    found = min(float(np.min(e, where=e > above, initial=np.inf)) for _, e in blocks(n_sites, model))
    return found if np.isfinite(found) else level[0]


def _mask(product: tuple[int, ...]) -> int:
    return sum(1 << site for site in product)


def _masks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (1 << first) | np.where(second >= 0, 1 << np.maximum(second, 0), 0)
