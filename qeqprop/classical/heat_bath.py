"""Thermal equilibria of spins by heat-bath sampling, with forces and responses that know their errors."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.scheme import LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .covariance import covariances
from .ising import Ising
from .spin_chains import Chains, words
from .spin_ensemble import SpinEnsemble, over_chains
from .temperature import check_temperature

UNMIXED = 1.2
"""R-hat above which the chains have not forgotten where they began."""


class HeatBath(AbstractSolver):
    r"""Thermal equilibrium by heat-bath (Gibbs) sampling: many chains side by side, each spin drawn given the others.

    .. math:: p(s_i = 1 \,|\, \text{others}) = \frac{1}{1 + e^{-2 f_i / T}} , \qquad f_i = h_i + \sum_j J_{ij} s_j

    Every chain starts from random spins and is cooled in `burn_in` sweeps from infinite temperature to T; the work done on
    the way gives the free energy (annealed importance sampling), which is the equilibrium's `energy`. Then it is recorded
    every `thin` sweeps. Nudged phases use the random numbers of the free one, so that much of the noise cancels in the
    difference; the limit beta -> 0 (`LinearResponse`, the default) needs no nudge at all:

    .. math:: \frac{d\langle A \rangle}{d\beta} = - \frac{1}{T} \mathrm{Cov}(A, C) ,

    with the cost's spins averaged over given the others (Rao-Blackwell). Standard errors come from a jackknife over the
    chains: correlations along a chain are in them. `stats["r_hat"]` compares the chains, worst spin first; above 1.2 the
    status is `INACCURATE`, because the chains still remember where they began: sample longer, or use `ParallelTempering`.
    `stats["free_energy_bias"]` is the jackknife's estimate of how far the finite number of chains biases the free energy.

    A batch is sampled in one call. The errors of its gradient hold at the error signal that was measured.

    Args:
        temperature: T > 0, with k_B = 1.
        chains: independent chains (a sample of the batch), at least 2; 64 fill the registers.
        records: configurations kept of every chain.
        thin: sweeps between two of them.
        burn_in: sweeps before the first.

    References: R. M. Neal, Statistics and Computing 11, 125 (2001), for the free energy.

    Example:
        >>> import qeqprop as qp
        >>> from qeqprop.classical import HeatBath, Ising
        >>> net = Ising(8, [(i, (i + 1) % 8) for i in range(8)])
        >>> params = {"J": [0.5] * 8, "h": [0.3] + [0.0] * 7}
        >>> out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(3)), solver=HeatBath(1.0), key=0)
        >>> exact = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(3)))
        >>> bool((abs(out.grad["h"] - exact.grad["h"]) < 4 * out.stderr["h"]).all())
        True
    """

    temperature: float = eqx.field(static=True)
    chains: int = eqx.field(static=True)
    records: int = eqx.field(static=True)
    thin: int = eqx.field(static=True)
    burn_in: int = eqx.field(static=True)

    name: ClassVar[str] = "HeatBath"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __init__(self, temperature: float, *, chains: int = 64, records: int = 100, thin: int = 1, burn_in: int = 100):
        self.temperature = check_temperature(temperature)
        self.chains = check_count(chains, "chains", 2)
        self.records = check_count(records, "records", 2)
        self.thin = check_count(thin, "thin")
        self.burn_in = check_count(burn_in, "burn_in")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The ensemble; with an `init` by its random numbers, else with those of `key`."""
        if not isinstance(system, Ising):
            raise wrong_system(system, "HeatBath", "Ising networks, of pair couplings and fields")
        seed = words(key) if init is None else seed_of(init, "HeatBath")
        chains = Chains(system.model(params), self.chains, seed, records=self.records)
        free, bias = cool(chains, self.temperature, self.burn_in)
        inverse = np.full(self.thin, 1 / self.temperature)
        spins = np.empty((*chains.shape, self.records, chains.n_sites), np.int8)
        for record in range(self.records):
            chains.sweep(inverse)
            spins[..., record, :] = chains.configurations()
        return thermal_equilibrium(
            SpinEnsemble(spins, seed), free, bias, (self.burn_in + self.records * self.thin) * spins[..., 0, :].size
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The covariance of cost and forces over the records; `tolerance` has no meaning here."""
        assert isinstance(system, Ising)  # `solve` has refused the others
        return covariance_response(system, params, equilibrium, term, self.temperature)

    def default_scheme(self, free: Equilibrium, term: Any) -> LinearResponse:
        """The covariance: less noise than any nudge, and no truncation."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase, for its random numbers."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """The chains of all samples run side by side."""
        return True

    def __repr__(self) -> str:
        return f"HeatBath(temperature={self.temperature:g}, chains={self.chains}, records={self.records})"


def seed_of(init: Equilibrium, solver: str) -> tuple[int, ...]:
    """The random numbers of an equilibrium that was sampled."""
    if not isinstance(init.state, SpinEnsemble) or not init.state.seed:
        raise TypeError(f"Argument `init` must be an equilibrium of {solver}, but its state is {init.state!r}.")
    return init.state.seed


def cool(chains: Chains, temperature: float, sweeps: int) -> tuple[Estimate, np.ndarray]:
    """Cool from infinite temperature; the free energy -T log Z by annealed importance sampling, and its bias.

    Z(b_K) / Z(0) is the mean of exp(-sum_k (b_k - b_{k-1}) E_k) over chains, with E_k before the sweep at b_k = k/(K T).
    """
    step, work = 1 / (sweeps * temperature), np.zeros(chains.shape)
    for k in range(1, sweeps + 1):
        work += step * chains.energies()
        chains.sweep(np.array([k * step]))
    offset = work.min(axis=-1, keepdims=True)
    weights = over_chains(np.exp(offset - work)[..., None])
    base = offset[..., 0] - chains.n_sites * np.log(2.0)
    full, single = (temperature * (base - np.log(value[..., 0])) for value in (weights.mean, weights.replicas))
    bias = (len(single) - 1) * np.abs(single.mean(axis=0) - full)
    return Estimate.jackknife(full, single), bias


def thermal_equilibrium(state: SpinEnsemble, free: Estimate, bias: np.ndarray, updates: int) -> Equilibrium:
    """What a sampler returns: the ensemble, the free energy, and whether the chains agree."""
    r_hat = float(state.r_hat().max())
    return Equilibrium(
        state=state,
        energy=Estimate(free.mean, np.asarray(free.stderr) + bias, free.replicas),
        residual=np.zeros(np.shape(free.mean)),
        gap=None,
        status=Status.INACCURATE if r_hat > UNMIXED else Status.OK,
        stats={"r_hat": r_hat, "free_energy_bias": float(np.max(bias)), "spin_updates": updates},
    )


def covariance_response(
    system: Ising, params: Params, equilibrium: Equilibrium, term: Any, temperature: float
) -> Response:
    """d<dE/dtheta>/dbeta by the covariance rule, sample by sample."""
    model, (first, second) = system.model(params), system.force_products()
    if system.batch_size is None:
        found = covariances(equilibrium.state, model, temperature, term, first, second)
    else:
        fields, constants = model.fields, model.constant
        each = [
            covariances(
                state,
                model._replace(fields=fields[i], constant=constants[i]),
                temperature,
                type(term)(term.observables, term.weights[i]),
                first,
                second,
            )
            for i, state in enumerate(equilibrium.state.samples())
        ]
        found = Estimate.jackknife(np.stack([x.mean for x in each]), np.stack([x.replicas for x in each], axis=1))
    advice = {
        "advice": f"The chains do not agree (R-hat {equilibrium.stats['r_hat']:.2f}): more `burn_in` and `records`."
    }
    unmixed = equilibrium.status == Status.INACCURATE
    return Response(
        system.force_estimate(found), np.zeros(found.mean.shape[:-1]), equilibrium.status, advice if unmixed else {}
    )
