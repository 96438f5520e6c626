"""Checkpoints of variational states: what was loaded draws the same samples and gives the same gradient, to the bit."""

from typing import NamedTuple

import jax
import netket as nk
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import serialization

import qeqprop as qp
from qeqprop import storage
from qeqprop.quantum.vmc_ansatz import default_sampler
from qeqprop.quantum.vmc_models import default_model
from qeqprop.storage import StorageError

N = 4
HILBERT = nk.hilbert.Spin(0.5, N)
RING = [(i, (i + 1) % 40) for i in range(40)]
NET = qp.TransverseFieldIsing(N, [(i, i + 1) for i in range(N - 1)])
PARAMS = {"J": np.array([1.0, 0.8, 1.2]), "h": np.array([0.4, 0.5, 0.3, 0.6]), "g": np.array([1.0, 1.1, 0.9, 1.2])}
COST = qp.ObservableCost(qp.Z(2))
SOLVER = qp.VariationalMonteCarlo(n_samples=128, n_chains=32, max_steps=10, v_score=1e-2)

SAMPLERS = {
    "single flips": default_sampler(N, 8, even=False),
    "global flips": default_sampler(N, 8, even=True),
    "long sweeps": nk.sampler.MetropolisLocal(HILBERT, n_chains=8, sweep_size=7, reset_chains=True, dtype=float),
    "exact": nk.sampler.ExactSampler(HILBERT),
}
MODELS = {
    "default": default_model(N, [(0, 1)]),
    "NetKet's RBM": nk.models.RBM(alpha=2, param_dtype=float, use_visible_bias=False),
    "NetKet's Jastrow": nk.models.Jastrow(param_dtype=np.float64),
}


class Mine(nn.Module):
    @nn.compact
    def __call__(self, s):
        return s @ self.param("a", nn.initializers.normal(0.1), (s.shape[-1],), float)


class Point(NamedTuple):
    """A named tuple of somebody else."""

    x: float
    y: float


def through_file(tmp_path, value):
    return qp.load(qp.save(tmp_path / "checkpoint", value))


def assert_continues_equally(vstate, loaded):
    np.testing.assert_array_equal(loaded.samples, vstate.samples)
    here, there = vstate.sample(), loaded.sample()
    np.testing.assert_array_equal(there, here)
    assert there.dtype == here.dtype
    assert getattr(loaded.sampler_state, "acceptance", None) == getattr(vstate.sampler_state, "acceptance", None)
    np.testing.assert_array_equal(loaded.log_value(loaded.samples), vstate.log_value(vstate.samples))


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_every_default_sampler_continues_with_the_same_samples(sampler, tmp_path):
    vstate = nk.vqs.MCState(sampler, MODELS["default"], n_samples=64, seed=1, sampler_seed=2)
    vstate.n_discard_per_chain = 0 if sampler.is_exact else 3
    vstate.sample()
    loaded = through_file(tmp_path, vstate)
    assert loaded.n_discard_per_chain == vstate.n_discard_per_chain
    assert_continues_equally(vstate, loaded)
    assert len(np.unique(np.asarray(loaded.samples).reshape(-1, N), axis=0)) > 4, "the chains stand still"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_models_of_the_package_and_of_netket_come_back(model, tmp_path):
    vstate = nk.vqs.FullSumState(HILBERT, model, seed=1, chunk_size=16)
    loaded = through_file(tmp_path, {"state": vstate})["state"]
    assert type(loaded.model) is type(model)
    assert loaded.chunk_size == 16
    np.testing.assert_array_equal(loaded.to_array(), vstate.to_array())


def test_the_default_model_of_a_large_graph_comes_back(tmp_path):
    vstate = nk.vqs.MCState(default_sampler(40, 16, even=True), default_model(40, RING, alpha=2), n_samples=32, seed=0)
    loaded = through_file(tmp_path, vstate)
    assert loaded.model == vstate.model
    sigma = np.random.default_rng(0).choice([-1.0, 1.0], size=(5, 40))
    np.testing.assert_array_equal(loaded.log_value(sigma), vstate.log_value(sigma))


def test_a_sampler_exchanged_after_loading_starts_from_the_same_key(tmp_path):
    vstate = nk.vqs.MCState(SAMPLERS["single flips"], MODELS["default"], n_samples=64, seed=1, sampler_seed=2)
    loaded = through_file(tmp_path, vstate)
    for state in (vstate, loaded):
        state.sampler = SAMPLERS["global flips"]
    np.testing.assert_array_equal(loaded.sample(), vstate.sample())


def test_a_training_resumes_to_the_same_numbers(tmp_path):
    """Parameters, Adam's moments, the free state with its chains, and the seed; the steps go on as if never interrupted."""
    adam = optax.chain(optax.clip(1.0), optax.adam(0.05))
    params, seed = PARAMS, np.random.SeedSequence(11)

    def step(now):
        key = now["seed"].spawn(1)[0]
        out = qp.ep_gradient(NET, now["params"], COST, solver=SOLVER, init=now["free"], key=key, throw=False)
        updates, moments = adam.update(out.grad, now["moments"], now["params"])
        params = {name: np.asarray(value + updates[name]) for name, value in now["params"].items()}
        return out, {"params": params, "moments": moments, "free": out.free, "seed": now["seed"]}

    _, now = step({"params": params, "moments": adam.init(params), "free": None, "seed": seed})
    saved = qp.save(tmp_path / "checkpoint", now)
    out, now = step(now)
    again, resumed = step(qp.load(saved))
    for name in PARAMS:
        np.testing.assert_array_equal(again.grad[name], out.grad[name])
        np.testing.assert_array_equal(again.stderr[name], out.stderr[name])
        np.testing.assert_array_equal(resumed["params"][name], now["params"][name])
    assert float(again.free.energy) == float(out.free.energy)
    assert abs(out.grad["g"][2]) > 1e-3
    assert type(resumed["moments"]) is type(now["moments"])


def test_a_driver_of_netket_resumes_to_the_same_numbers(tmp_path):
    """With Flax's own state dict; the driver and its model are the user's."""

    def driver():
        sampler = nk.sampler.MetropolisLocal(HILBERT, n_chains=8)
        vstate = nk.vqs.MCState(sampler, Mine(), n_samples=64, seed=1, sampler_seed=2)
        operator = qp.quantum.JaxSpinOperator.from_operators(HILBERT, NET.operators(), NET.strengths(PARAMS))
        return nk.driver.VMC_SR(
            operator, optax.adam(0.01), variational_state=vstate, diag_shift=1e-2, mode="real", on_the_fly=False
        )

    first = driver()
    first.run(3, show_progress=False)
    resumed = serialization.from_state_dict(driver(), through_file(tmp_path, serialization.to_state_dict(first)))
    for one in (first, resumed):
        one.run(2, show_progress=False)
    assert resumed.step_count == first.step_count == 5
    np.testing.assert_array_equal(resumed.state.parameters["a"], first.state.parameters["a"])
    np.testing.assert_array_equal(resumed.state.sample(), first.state.sample())


def test_code_is_refused_and_nothing_is_written(tmp_path):
    own = nk.vqs.FullSumState(HILBERT, Mine(), seed=0)
    option = nk.vqs.FullSumState(HILBERT, nk.models.RBM(param_dtype=float, activation=jax.numpy.tanh), seed=0)
    exchange = nk.sampler.MetropolisExchange(HILBERT, graph=nk.graph.Chain(N), n_chains=8)
    other = nk.sampler.ParallelTemperingLocal(HILBERT, n_replicas=2, n_chains=8)
    constrained = nk.vqs.FullSumState(nk.hilbert.Spin(0.5, N, total_sz=0), MODELS["default"], seed=0)
    for vstate, message in [
        (own, "of a Mine cannot be saved: its model is part of neither"),
        (option, "option `activation` is code"),
        (constrained, "only free spins 1/2 are known"),
        (nk.vqs.MCState(exchange, MODELS["default"], n_samples=64, seed=0), "sampled by ExchangeRule cannot be saved"),
        (
            nk.vqs.MCState(other, MODELS["default"], n_samples=64, seed=0),
            "known are MetropolisSampler and ExactSampler",
        ),
    ]:
        with pytest.raises(TypeError, match=message):
            qp.save(tmp_path / "x", vstate)
    assert list(tmp_path.iterdir()) == []


def test_files_cannot_name_what_is_not_a_model_or_an_optimizer_state():
    from qeqprop.quantum.vmc_saved import restored_state

    for home, name in [("os", "system"), ("netket.models", "tensor_networks"), ("qeqprop.quantum.vmc_models", "nn")]:
        plain = {"n_sites": N, "model": {"home": home, "class": name, "fields": {}}, "chains": None}
        with pytest.raises(ValueError, match=f"the model {home}.{name} is not known"):
            restored_state(plain)
    with pytest.raises(StorageError, match="adam is not known"):
        storage._decode({"optax": ["adam", [0.1]]}, {})
    with pytest.raises(TypeError, match="only the states of optax"):
        storage._encode(Point(1, 2), {})
