"""NetKet states as plain data and back: the model, its variables, the sampler, and where chains and random keys stand.

Code is never stored: a file names the classes of the model and of the sampler, and only models of qeqprop and NetKet
and samplers of NetKet are looked up. What was loaded continues with the same numbers, to the bit.
"""

import dataclasses
from importlib import import_module
from typing import Any

import numpy as np

from ..core.precision import jax_float64

_NETKET_MODELS, _OUR_MODELS = "netket.models", f"{__package__}.vmc_"
_SIMPLE_RULES = ("LocalRule", "GlobalSpinFlipRule")


def plain_state(vstate: Any) -> dict[str, Any]:
    """A NetKet `MCState` or `FullSumState` as numbers, strings, tuples, dicts and arrays.

    Raises:
        TypeError: its model is neither one of qeqprop's nor of NetKet's, or its sampler is none of NetKet's that draw
            spins by single and global flips or exactly.
        RuntimeError: its chains are shared out over several processes.
    """
    if (processes := jax_float64().process_count()) > 1:
        raise RuntimeError(
            f"A variational state cannot be saved from {processes} processes joined by jax.distributed: each holds its own "
            "chains only. Save the `variables`, which all have, and start from them in one process."
        )
    import netket

    if vstate.hilbert != netket.hilbert.Spin(0.5, vstate.hilbert.size):
        raise TypeError(f"A variational state on {vstate.hilbert} cannot be saved: only free spins 1/2 are known.")
    return {
        "n_sites": vstate.hilbert.size,
        "model": _plain_model(vstate._model),
        "variables": vstate.variables,
        "chunk_size": vstate.chunk_size,
        "chains": _plain_chains(vstate) if hasattr(vstate, "sampler") else None,
    }


def restored_state(plain: dict[str, Any]) -> Any:
    """The NetKet state that `plain_state` described."""
    jax = jax_float64()
    import netket

    hilbert, model, chains = netket.hilbert.Spin(0.5, plain["n_sites"]), _model(plain["model"]), plain["chains"]
    known = {"variables": jax.tree.map(jax.numpy.asarray, plain["variables"]), "chunk_size": plain["chunk_size"]}
    if chains is None:
        return netket.vqs.FullSumState(hilbert, model, **known)
    vstate = netket.vqs.MCState(
        _sampler(hilbert, chains["sampler"]),
        model,
        n_samples=chains["n_samples"],
        n_discard_per_chain=chains["n_discard_per_chain"],
        sampler_seed=0,
        **known,
    )
    vstate._sampler_seed = _key(chains["sampler_seed"])  # of samplers to come
    vstate.sampler_state = _sampler_state(vstate.sampler_state, chains["state"])
    if chains["samples"] is not None:
        vstate._samples = _over_devices(chains["samples"])
    return vstate


def _plain_model(model: Any) -> dict[str, Any]:
    """The class of a Flax module, and those of its fields that are not at their defaults."""
    cls = type(model)
    home = _NETKET_MODELS if cls.__module__.startswith(f"{_NETKET_MODELS}.") else cls.__module__
    if not _known(home) or getattr(import_module(home), cls.__name__, None) is not cls:
        raise TypeError(
            f"A variational state of a {cls.__name__} cannot be saved: its model is part of neither qeqprop nor NetKet. Save "
            "its `variables` and build the state anew."
        )
    fields = {
        field.name: _plain_field(cls, field.name, getattr(model, field.name))
        for field in dataclasses.fields(model)
        if field.init and field.name not in ("parent", "name") and getattr(model, field.name) is not field.default
    }
    return {"home": home, "class": cls.__name__, "fields": fields}


def _plain_field(cls: type, name: str, value: Any) -> Any:
    import flax.linen as nn

    if isinstance(value, nn.Module):
        return {"model": _plain_model(value)}
    if isinstance(value, tuple):
        return tuple(_plain_field(cls, name, item) for item in value)
    if value is None or isinstance(value, bool | int | float | str | np.ndarray):
        return value
    if isinstance(value, type | np.dtype) or hasattr(value, "dtype"):
        return {"dtype": np.dtype(value).name}
    raise TypeError(
        f"A variational state of a {cls.__name__} cannot be saved: its option `{name}` is code ({value!r}). Save its "
        "`variables` and build the state anew."
    )


def _model(plain: dict[str, Any]) -> Any:
    """The model; nothing but Flax modules of known homes is made."""
    import flax.linen as nn

    home, name = plain["home"], plain["class"]
    cls = getattr(import_module(home), name, None) if _known(home) else None
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ValueError(f"the model {home}.{name} is not known to this version of qeqprop and NetKet")
    return cls(**{field: _field(value) for field, value in plain["fields"].items()})


def _field(value: Any) -> Any:
    if isinstance(value, dict):
        return _model(value["model"]) if "model" in value else np.dtype(value["dtype"]).type
    return tuple(map(_field, value)) if isinstance(value, tuple) else value


def _known(home: str) -> bool:
    return home == _NETKET_MODELS or home.startswith(_OUR_MODELS)


def _plain_chains(vstate: Any) -> dict[str, Any]:
    """Everything that decides which samples come next, and the present ones."""
    state = vstate.sampler_state
    walking = ("σ", "n_steps_proc", "n_accepted_proc")
    return {
        "sampler": _plain_sampler(vstate.sampler),
        "n_samples": vstate.n_samples,
        "n_discard_per_chain": vstate.n_discard_per_chain,
        "sampler_seed": _plain_key(vstate._sampler_seed),
        "state": {
            "rng": _plain_key(state.rng),
            **{name: getattr(state, name) for name in walking if hasattr(state, name)},
        },
        "samples": vstate._samples,
    }


def _plain_sampler(sampler: Any) -> dict[str, Any]:
    import netket

    common = {"machine_pow": sampler.machine_pow, "dtype": np.dtype(sampler.dtype).name}
    if type(sampler) is netket.sampler.ExactSampler:
        return common
    if type(sampler) is not netket.sampler.MetropolisSampler:
        raise TypeError(
            f"A variational state sampled by a {type(sampler).__name__} cannot be saved: known are MetropolisSampler and "
            "ExactSampler."
        )
    options = ("n_chains", "sweep_size", "reset_chains")
    return {**common, **{name: getattr(sampler, name) for name in options}, "rule": _plain_rule(sampler.rule)}


def _plain_rule(rule: Any) -> Any:
    import netket

    name = type(rule).__name__
    if type(rule) is netket.sampler.rules.MultipleRules:
        return {"rules": [_plain_rule(part) for part in rule.rules], "probabilities": rule.probabilities}
    if name not in _SIMPLE_RULES or type(rule) is not getattr(netket.sampler.rules, name):
        raise TypeError(
            f"A variational state sampled by {name} cannot be saved: known are {', '.join(_SIMPLE_RULES)} and MultipleRules "
            "of these."
        )
    return name


def _sampler(hilbert: Any, plain: dict[str, Any]) -> Any:
    import netket

    options = {**plain, "dtype": np.dtype(plain["dtype"]).type}
    if "rule" not in options:
        return netket.sampler.ExactSampler(hilbert, **options)
    jax = jax_float64()
    devices = jax.device_count() if netket.config.netket_sharding else 1
    if options["n_chains"] % devices:
        raise ValueError(f"the state has {options['n_chains']} chains, which {devices} devices cannot share evenly")
    return netket.sampler.MetropolisSampler(hilbert, _rule(options.pop("rule")), **options)


def _rule(plain: Any) -> Any:
    import netket

    rules = netket.sampler.rules
    if isinstance(plain, dict):
        return rules.MultipleRules(tuple(map(_rule, plain["rules"])), plain["probabilities"])
    if plain not in _SIMPLE_RULES:
        raise ValueError(f"the rule {plain} is not known to this version of qeqprop")
    return getattr(rules, plain)()


def _sampler_state(fresh: Any, plain: dict[str, Any]) -> Any:
    """The state of a sampler just made, moved to where the saved one was."""
    numpy = jax_float64().numpy
    walked: dict[str, Any] = {name: _over_devices(plain[name]) for name in ("σ", "n_accepted_proc") if name in plain}
    if "n_steps_proc" in plain:
        walked["n_steps_proc"] = numpy.asarray(plain["n_steps_proc"])
    return fresh.replace(rng=_key(plain["rng"]), **walked)


def _over_devices(array: Any) -> Any:
    """Chains shared out over the devices of NetKet's mesh."""
    jax = jax_float64()
    import netket

    return netket.jax.sharding.shard_along_axis(jax.numpy.asarray(array), axis=0)


def _plain_key(key: Any) -> dict[str, Any]:
    jax = jax_float64()
    return {"words": jax.random.key_data(key), "generator": str(jax.random.key_impl(key))}


def _key(plain: dict[str, Any]) -> Any:
    jax = jax_float64()
    return jax.random.wrap_key_data(jax.numpy.asarray(plain["words"]), impl=plain["generator"])
