"""Classical spins, exactly: all 2^n configurations by two Walsh-Hadamard transforms."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
import scipy.linalg

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.module import AbstractModule
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .ising import Ising
from .spin_products import product_table
from .temperature import check_temperature, contrast

MAX_SPINS = 24
"""Largest number of spins: 128 MiB a table."""
TABLES = 4
"""Tables of 2^n numbers held at a time."""
RADIX = 6
"""Bits that one matrix product transforms."""
SAME_LEVEL = 1e-12
"""Energies that differ by less than this, relative to the largest, are one level."""


class EnumeratedState(AbstractModule):
    """A distribution over all configurations, as the means of all products of spins.

    Attributes:
        n_sites: number of spins.
        moments: <prod_{i in A} s_i>, shape (2^n_sites,); bit i of the index is set where site i is in A.
    """

    n_sites: int = eqx.field(static=True)
    moments: np.ndarray

    def expect(self, observable: Any) -> Estimate:
        """<O>, exact, for a Pauli sum of Z's with products of any length."""
        found = self.expect_all((observable,))
        return Estimate.exact(found.mean[0])

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """<O_k>, exact, shape (K,)."""
        table = product_table(tuple(observables))
        return Estimate.exact(table.coefficients @ self.moments[[_mask(product) for product in table.products]])

    def products(self, first: np.ndarray, second: np.ndarray) -> Estimate:
        """<s_i s_j>; <s_i> where j = -1."""
        return Estimate.exact(self.moments[_masks(first, second)])

    def __repr__(self) -> str:
        return f"EnumeratedState({self.n_sites} spins)"


class ExactEnumeration(AbstractSolver):
    r"""Boltzmann distribution over all 2^n configurations, at most 24 spins.

    The energies are the Walsh-Hadamard transform of the couplings, and the means of *all* products of spins are the
    transform of the probabilities: 2 n 2^n additions, a second for 24 spins. The limit beta -> 0 is a covariance,

    .. math:: \frac{d\langle A \rangle}{d\beta} = -\frac{1}{T} \left( \langle A C \rangle
              - \langle A \rangle \langle C \rangle \right) ,

    read off the same table. Its `energy` is the free energy -T log Z.

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
        check_memory(TABLES * 8 << system.n_sites, f"Enumerating {system.n_sites} spins", "Use HeatBath.")
        model = system.model(params)
        energies = np.zeros(1 << system.n_sites)
        energies[_masks(model.pairs[:, 0], model.pairs[:, 1])] = -model.couplings
        energies[1 << np.arange(system.n_sites)] = -model.fields
        energies = walsh_hadamard(energies)
        lowest = float(energies.min())
        stats: dict[str, Any] = {"lowest_energy": lowest + float(model.constant)}
        status, energy = Status.OK, lowest
        if self.temperature > 0:
            weights = np.exp((lowest - energies) / self.temperature)
            energy -= self.temperature * float(np.log(weights.sum()))
        else:
            excited = energies > lowest + SAME_LEVEL * max(np.abs(energies).max(), 1e-300)
            weights = 1.0 - excited
            stats["gap"] = float(energies[excited].min() - lowest) if excited.any() else 0.0
            status = Status.OK if weights.sum() == 1 else Status.DEGENERATE
        return Equilibrium(
            state=EnumeratedState(system.n_sites, walsh_hadamard(weights / weights.sum())),
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
        moments, forces = equilibrium.state.moments, _masks(*system.force_products())
        slope = np.zeros(len(forces))
        if self.temperature > 0:
            table = product_table(term.observables)
            for product, weight in zip(table.products, term.weights @ table.coefficients, strict=True):
                cost = _mask(product)
                slope -= weight * (moments[forces ^ cost] - moments[forces] * moments[cost]) / self.temperature
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


def walsh_hadamard(values: np.ndarray) -> np.ndarray:
    """sum_A (-1)^popcount(A & s) values[A], by matrix products over a few bits each.

    Example:
        >>> walsh_hadamard(np.array([1.0, 2.0, 3.0, 4.0]))
        array([10., -2., -4.,  0.])
    """
    done, n_bits = 0, len(values).bit_length() - 1
    while done < n_bits:
        bits = min(RADIX, n_bits - done)
        signs = scipy.linalg.hadamard(1 << bits, dtype=np.float64)
        values = np.matmul(signs, values.reshape(-1, 1 << bits, 1 << done)).ravel()
        done += bits
    return values


def _mask(product: tuple[int, ...]) -> int:
    return sum(1 << site for site in product)


def _masks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (1 << first) | np.where(second >= 0, 1 << np.maximum(second, 0), 0)
