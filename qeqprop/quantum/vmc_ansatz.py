"""The variational state that a solve starts from: the user's own, or one that fits the graph and its symmetry."""

from typing import Any

import numpy as np

from ..core.precision import jax_float64
from .conversion import sites_of
from .pauli import PauliSum
from .spins import AbstractSpinSystem

GLOBAL_FLIPS = 0.05
"""Share of moves that flip all spins, where the Hamiltonian is even: <Z> would hardly mix by single flips."""
MOVES_PER_SITE = 2
"""Between two samples: after one move a site, samples have a correlation time of 0.5 to 0.7, and a sample costs about as much
to draw as to use."""
LARGEST_CLIQUE = 6
"""Strings on more sites (a parity, say) do not make a neighbourhood."""


def coupled_pairs(system: AbstractSpinSystem) -> list[tuple[int, int]]:
    """The pairs of sites that a string of the Hamiltonian acts upon together."""
    operators = (*(operator for _, group in system.terms for operator in group), system.fixed, *system.input_terms)
    supports = {sites_of(x | z) for operator in operators for x, z, _ in operator}
    return sorted({(i, j) for sites in supports if len(sites) <= LARGEST_CLIQUE for i in sites for j in sites if i < j})


def even_under_flip(hamiltonian: PauliSum) -> bool:
    """Whether H commutes with the flip of all spins: every string has an even number of Z's and Y's."""
    return all(z.bit_count() % 2 == 0 for _, z, _ in hamiltonian)


def frozen_parameters(vstate: Any) -> Any:
    """Which parameters stay at 0 so that the state is exactly even; None for models that are not ours."""
    from .vmc_models import LocalNetwork, odd_parameters

    return odd_parameters(vstate.parameters) if isinstance(vstate._model, LocalNetwork) else None


def make_full_sum(system: AbstractSpinSystem, model: Any, seed: int) -> Any:
    """A `netket.vqs.FullSumState` of the model, or of the default one."""
    jax_float64()
    import netket

    hilbert = netket.hilbert.Spin(0.5, system.n_sites)
    return _checked(netket.vqs.FullSumState(hilbert, _model(system, model), seed=seed))


def make_sampled(
    system: AbstractSpinSystem,
    hamiltonian: PauliSum,
    model: Any,
    sampler: Any,
    n_samples: int,
    n_chains: int,
    seed: int,
) -> Any:
    """A `netket.vqs.MCState` of the model and the sampler, or of the default ones."""
    jax_float64()
    import netket

    if sampler is None:
        sampler = default_sampler(system.n_sites, n_chains, even_under_flip(hamiltonian))
    _check_hilbert("sampler", sampler.hilbert)
    if sampler.hilbert.size != system.n_sites:
        raise ValueError(
            f"Argument `sampler` must draw {system.n_sites} spins, but its Hilbert space has {sampler.hilbert.size}."
        )
    if n_samples % sampler.n_chains:
        raise ValueError(
            f"Argument `n_samples` must be a multiple of the {sampler.n_chains} chains of the sampler, but is {n_samples}."
        )
    made = netket.vqs.MCState(
        sampler, _model(system, model), n_samples=n_samples, seed=seed, sampler_seed=seed ^ 0x5EED
    )
    return _checked(made)


def default_sampler(n_sites: int, n_chains: int, even: bool) -> Any:
    """Metropolis moves of single spins, and of all at once where H is even."""
    jax_float64()
    import netket

    hilbert, rules = netket.hilbert.Spin(0.5, n_sites), netket.sampler.rules
    sweep = MOVES_PER_SITE * n_sites
    if not even:
        return netket.sampler.MetropolisLocal(hilbert, n_chains=n_chains, sweep_size=sweep)
    moves = (rules.LocalRule(), rules.GlobalSpinFlipRule())
    rule = rules.MultipleRules(moves, np.array([1 - GLOBAL_FLIPS, GLOBAL_FLIPS]))
    return netket.sampler.MetropolisSampler(hilbert, rule, n_chains=n_chains, sweep_size=sweep)


def check_vstate(state: Any, n_sites: int | None = None) -> None:
    """Refuse what is not a NetKet state of spins 1/2 with a real log psi."""
    import netket

    if not isinstance(state, netket.vqs.MCState | netket.vqs.FullSumState):
        raise TypeError(
            f"Argument `state` must be a netket.vqs.MCState or FullSumState, but is {type(state).__name__}."
        )
    _check_hilbert("state", state.hilbert)
    if n_sites is not None and state.hilbert.size != n_sites:
        raise ValueError(f"Argument `state` must have {n_sites} sites, but has {state.hilbert.size}.")
    _checked(state)


def _check_hilbert(argument: str, hilbert: Any) -> None:
    if list(getattr(hilbert, "local_states", [])) != [1, -1]:
        raise ValueError(f"Argument `{argument}` must live on netket.hilbert.Spin(1/2, n), but lives on {hilbert}.")
    if hilbert.constrained:
        raise ValueError(
            f"Argument `{argument}` must live on all configurations of its spins, but {hilbert} is constrained: flips of "
            "single spins leave it."
        )


def _model(system: AbstractSpinSystem, model: Any) -> Any:
    from .vmc_models import default_model

    return default_model(system.n_sites, coupled_pairs(system)) if model is None else model


def _checked(vstate: Any) -> Any:
    jax = jax_float64()
    sigma = vstate.hilbert.random_state(jax.random.key(0), 1)
    if np.issubdtype(jax.eval_shape(vstate._apply_fun, vstate.variables, sigma).dtype, np.complexfloating):
        raise TypeError(
            "Argument `model` must give a real log psi, but gives a complex one: the ground state of a stoquastic "
            "Hamiltonian is positive. Take real parameters (param_dtype=float)."
        )
    return vstate
