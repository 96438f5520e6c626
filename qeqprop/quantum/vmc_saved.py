"""NetKet states as plain data and back: the model of `vmc_models`, its variables, and where the chains stand.

Only states of our own models and samplers are saved: code is never stored, and what a file names must be found again. For
a model of your own keep the variables (`qp.save(path, state.variables)`), and build the NetKet state anew.
"""

from typing import Any

import numpy as np

from ..core.precision import jax_float64
from .vmc_ansatz import default_sampler


def plain_state(vstate: Any) -> dict[str, Any]:
    """A NetKet state as numbers, strings, tuples and arrays.

    Raises:
        TypeError: its model or its sampler is not one of qeqprop's.
    """
    from .vmc_models import LocalRBM

    model = vstate._model
    if not isinstance(model, LocalRBM):
        raise TypeError(
            f"A variational state of a {type(model).__name__} cannot be saved: its model is not part of qeqprop. Save its "
            "`variables` and build the state anew."
        )
    return {
        "n_sites": vstate.hilbert.size,
        "model": {
            "neighbourhoods": model.neighbourhoods,
            "pairs": model.pairs,
            "alpha": model.alpha,
            "width": model.width,
        },
        "variables": vstate.variables,
        "chains": _plain_chains(vstate) if hasattr(vstate, "sampler") else None,
    }


def _plain_chains(vstate: Any) -> dict[str, Any]:
    jax = jax_float64()
    import netket

    rule, rules = vstate.sampler.rule, netket.sampler.rules
    even = isinstance(rule, rules.MultipleRules)
    kinds = [type(r) for r in rule.rules] if even else [type(rule)]
    if kinds not in ([rules.LocalRule], [rules.LocalRule, rules.GlobalSpinFlipRule]):
        raise TypeError(
            f"A variational state sampled by {type(rule).__name__} cannot be saved: only the default samplers are known."
        )
    return {
        "even": even,
        "n_chains": vstate.sampler.n_chains,
        "n_samples": vstate.n_samples,
        "n_discard_per_chain": vstate.n_discard_per_chain,
        "configurations": vstate.sampler_state.σ,
        "key": jax.random.key_data(vstate.sampler_state.rng),
    }


def restored_state(plain: dict[str, Any]) -> Any:
    """The NetKet state that `plain_state` described: it continues with the same numbers."""
    jax = jax_float64()
    import netket

    from .vmc_models import LocalRBM

    n_sites, chains = plain["n_sites"], plain["chains"]
    model = LocalRBM(**plain["model"])
    variables = jax.tree.map(jax.numpy.asarray, plain["variables"])
    if chains is None:
        return netket.vqs.FullSumState(netket.hilbert.Spin(0.5, n_sites), model, variables=variables)
    vstate = netket.vqs.MCState(
        default_sampler(n_sites, chains["n_chains"], chains["even"]),
        model,
        variables=variables,
        n_samples=chains["n_samples"],
        n_discard_per_chain=chains["n_discard_per_chain"],
        sampler_seed=0,
    )
    key = jax.random.wrap_key_data(jax.numpy.asarray(chains["key"]))
    where = jax.numpy.asarray(np.asarray(chains["configurations"]))
    vstate.sampler_state = vstate.sampler_state.replace(σ=where, rng=key)
    return vstate
