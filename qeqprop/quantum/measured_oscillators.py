"""A Gaussian state as an experiment knows it: positions read in one setting, momenta in another."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from .gaussian_state import AbstractGaussianState, GaussianState
from .jackknife import block_sums, leave_one_out


class SampleMoments(AbstractGaussianState):
    """The Gaussian with the moments of a sample of positions and of momenta, or of all its jackknife replicas.

    Attributes:
        n_sites, components: the nodes.
        mean, momentum: averages; of the replicas with one replica for each block of shots on a leading axis.
        positions, momenta: what was read, (..., shots, n_sites * components).
        replicated: whether the averages are those of the replicas.
    """

    n_sites: int = eqx.field(static=True)
    components: int = eqx.field(static=True)
    mean: np.ndarray
    momentum: np.ndarray
    positions: np.ndarray
    momenta: np.ndarray
    replicated: bool = eqx.field(static=True)

    def position_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        products = average(self.positions[..., i] * self.positions[..., j], self.replicated)
        return products - self.mean[..., i] * self.mean[..., j]

    def momentum_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        products = average(self.momenta[..., i] * self.momenta[..., j], self.replicated)
        return products - self.momentum[..., i] * self.momentum[..., j]


def average(samples: np.ndarray, replicated: bool) -> np.ndarray:
    """Over the shots (..., shots, n), or the delete-one-block averages (blocks, ..., n)."""
    if not replicated:
        return samples.mean(axis=-2)
    return leave_one_out(block_sums(np.swapaxes(samples, -1, -2)), samples.shape[-2])


class MeasuredOscillators(AbstractModule):
    """Shots of a Gaussian state: positions of all nodes in one setting ("R"), momenta in another ("P").

    Means and second moments over the shots; every estimate carries its jackknife replicas. Second moments are plain
    averages of the products, which have no bias.

    Attributes:
        n_sites, components: the nodes.
        bases: ("R",), or ("R", "P") where momenta were read.
        positions, momenta: what was read, (..., shots, n_sites * components); NaN where it was not.
        prepared: the state that was measured; an experiment does not know it.
        exact_outputs: whether error signals are taken from `prepared` instead of the shots.
    """

    n_sites: int = eqx.field(static=True)
    components: int = eqx.field(static=True)
    bases: tuple[str, ...] = eqx.field(static=True)
    positions: np.ndarray
    momenta: np.ndarray
    prepared: Any
    exact_outputs: bool = eqx.field(static=True)

    _repr_html_ = display.of_state

    @property
    def shots(self) -> int:
        """Number of shots of every setting."""
        return self.positions.shape[-2]

    @property
    def signal_state(self) -> Any:
        """Where a cost takes its error signal from."""
        return self.prepared if self.exact_outputs else self

    @property
    def moments(self) -> SampleMoments:
        """The moments of the sample."""
        return self._moments(False)

    @property
    def replicas(self) -> SampleMoments:
        """The moments of all shots but one block, for every block: a batch of states."""
        return self._moments(True)

    def _moments(self, replicated: bool) -> SampleMoments:
        mean, momentum = (average(samples, replicated) for samples in (self.positions, self.momenta))
        return SampleMoments(
            n_sites=self.n_sites,
            components=self.components,
            mean=mean,
            momentum=momentum,
            positions=self.positions,
            momenta=self.momenta,
            replicated=replicated,
        )

    def expect(self, observable: Any) -> Estimate:
        """Mean and standard error over the shots.

        Example:
            >>> import qeqprop as qp
            >>> one = qp.HarmonicNetwork(1, [], hbar=0.2)
            >>> solver = qp.Measured(qp.GaussianGroundState(), shots=10_000)
            >>> params = {"k": [], "l": [], "kappa": [4.0], "f": [2.0]}
            >>> qp.equilibrate(one, params, solver=solver, key=0).state.expect(qp.R(0))  # 0.5 +- sqrt(0.05/10^4)
            0.502(2)
        """
        values = self.expect_all((observable,))
        assert values.replicas is not None
        return Estimate(values.mean[..., 0], values.stderr[..., 0], values.replicas[..., 0])

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """Estimates of K polynomials from the same shots, shape (..., K), with their replicas."""
        mean = self.moments.expect_all(observables).mean
        if "P" not in self.bases and any(v[0] == "P" for o in observables for monomial, _ in o for v in monomial):
            raise ValueError("Momenta are read in none of the settings ['R']: use Measured(..., bases=['R', 'P']).")
        return Estimate.jackknife(mean, self.replicas.expect_all(observables).mean)

    def __repr__(self) -> str:
        batch = "".join(f", batch of {size}" for size in self.positions.shape[:-2])
        settings = " and ".join({"R": "positions", "P": "momenta"}[basis] for basis in self.bases)
        return f"MeasuredOscillators({self.n_sites} nodes{batch}, {self.shots} shots of {settings})"


def drawn(mean: np.ndarray, covariance: np.ndarray, shots: int, rng: np.random.Generator) -> np.ndarray:
    """Normal random vectors (..., shots, n); the covariance (n, n) or (..., n, n) may be singular (hbar = 0)."""
    variances, axes = np.linalg.eigh(covariance)
    scale = axes * np.sqrt(np.maximum(variances, 0.0))[..., None, :]
    return mean[..., None, :] + rng.normal(size=(*mean.shape[:-1], shots, mean.shape[-1])) @ np.swapaxes(scale, -1, -2)


def read_oscillators(
    state: GaussianState,
    bases: tuple[str, ...],
    shots: int,
    rngs: Sequence[np.random.Generator],
    exact_outputs: bool,
) -> MeasuredOscillators:
    """Positions, and momenta where they are wanted."""
    positions = drawn(state.mean, state.position_covariance, shots, rngs[0])
    momenta = np.full_like(positions, np.nan)
    if "P" in bases:
        momenta = drawn(state.momentum, state.momentum_covariance, shots, rngs[1])
    return MeasuredOscillators(state.n_sites, state.components, bases, positions, momenta, state, exact_outputs)
