"""Samples in chunks and over devices: the numbers stay the same, and the memory within its budget."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import netket as nk
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum.vmc_ansatz import default_sampler
from qeqprop.quantum.vmc_devices import chunk_size, sample_map
from qeqprop.quantum.vmc_energy import Hamiltonian, _compiled
from qeqprop.quantum.vmc_models import default_model
from qeqprop.quantum.vmc_operator import spin_operator
from qeqprop.quantum.vmc_state import _compiled_strings
from qeqprop.quantum.zero_variance import Ansatz, features
from qeqprop.quantum.zero_variance_crossfit import cross_fit

N = 6
EDGES = [(i, i + 1) for i in range(N - 1)]
NET = qp.TransverseFieldIsing(N, EDGES)
PARAMS = {"J": np.linspace(0.8, 1.2, N - 1), "h": np.full(N, 0.5), "g": np.linspace(1.0, 1.4, N)}
COUNT = 224  # in halves of 96 and as a whole no multiple of the chunks below


@pytest.fixture(scope="module")
def sampled():
    """A state that is not relaxed, its Hamiltonian, and samples."""
    vstate = nk.vqs.MCState(
        default_sampler(N, 32, False), default_model(N, EDGES), n_samples=COUNT, seed=1, sampler_seed=2
    )
    table = spin_operator((*NET.operators(), qp.Z(0) * qp.Z(3)), N)
    strengths = np.append(NET.strengths(PARAMS), 0.0)
    return vstate, Hamiltonian(table, table.coefficients(strengths), 0.0), vstate.samples


def ansatz(vstate, h, chunk):
    return Ansatz(vstate._apply_fun, vstate.variables, h.table, h.coefficients, h.table.matrix, chunk)


def assert_equal(there, here):
    for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())


def test_chunks_fit_the_budget_and_are_powers_of_two():
    assert chunk_size(1000, 1 << 23, budget=8 * 1000 * 37) == 32
    assert chunk_size(1000, 1 << 13, budget=1 << 40) == 8
    assert chunk_size(1 << 30, 1 << 20) == 1


def test_local_energies_and_strings_do_not_depend_on_the_chunk(sampled):
    vstate, h, samples = sampled
    sigma = samples.reshape(-1, N)
    for compiled, arguments in [
        (_compiled()[0], (vstate.variables, h)),
        (_compiled_strings(), (vstate.variables, h.table)),
    ]:
        whole, parts = (np.asarray(compiled(vstate._apply_fun, c, *arguments, sigma)) for c in (COUNT, 15))
        assert_equal(parts, whole)
        assert whole.std() > 0.01


def test_the_zero_variance_response_does_not_depend_on_the_chunk(sampled):
    vstate, h, samples = sampled
    whole, parts = (cross_fit(ansatz(vstate, h, chunk), samples, None) for chunk in (COUNT, 7))
    assert_equal(parts.feats, whole.feats)
    n_forces = sum(value.size for value in PARAMS.values())
    cost = len(h.table.matrix) - 1
    # the fits solve equations with a condition of 1e4 and more
    for a, b in zip(parts.respond(cost, n_forces), whole.respond(cost, n_forces), strict=True):
        np.testing.assert_allclose(a.response, b.response, atol=1e-9 * np.abs(b.response).max())
        assert np.abs(b.response).max() > 0.01


def test_a_smaller_chunk_needs_less_memory(sampled):
    """As the compiler plans it: the configurations behind all flips of one chunk are what is held."""
    vstate, h, _ = sampled
    sigma = np.ones((4096, N))

    def held(chunk):
        lowered = jax.jit(lambda s: features(ansatz(vstate, h, chunk), s)).lower(sigma)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert held(64) < held(4096) / 8


def test_any_number_of_samples_is_mapped():
    values = jax.jit(lambda s: sample_map(lambda x: (x.sum(), 2 * x), s, 4))(np.arange(14.0).reshape(7, 2))
    np.testing.assert_array_equal(values[0], np.arange(14.0).reshape(7, 2).sum(axis=1))
    np.testing.assert_array_equal(values[1], 2 * np.arange(14.0).reshape(7, 2))


def shared_out(folder):
    """A gradient and a resumed state on the devices of this process, as plain numbers."""
    net = qp.TransverseFieldIsing(4, EDGES[:3])
    params = {"J": np.array([1.0, 0.8, 1.2]), "h": np.full(4, 0.5), "g": np.ones(4)}
    solver = qp.VariationalMonteCarlo(n_samples=512, n_chains=32, max_steps=10)
    out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(0) * qp.Z(2)), solver=solver, key=1, throw=False)
    vstate = out.free.state.vstate
    loaded = qp.load(qp.save(folder / "free", out.free)).state.vstate
    odd = jax.jit(lambda s: sample_map(lambda x: (x**2).sum(), s, 4))(np.arange(14.0).reshape(7, 2))
    return {
        "shares": [shard.data.shape[0] for shard in vstate.samples.addressable_shards],
        "loaded shares": [shard.data.shape[0] for shard in loaded.samples.addressable_shards],
        "resumed": bool((loaded.sample() == vstate.sample()).all()),
        "grad": np.concatenate([out.grad[name] for name in params]).tolist(),
        "stderr": np.concatenate([out.stderr[name] for name in params]).tolist(),
        "odd": odd.tolist(),
    }


def test_two_devices_give_the_gradient_of_one(tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "NETKET_NO_TIPS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", __file__, str(tmp_path)],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = shared_out(tmp_path), json.loads(done.stdout.splitlines()[-1])
    assert one["shares"] == one["loaded shares"] == [32]
    assert two["shares"] == two["loaded shares"] == [16, 16], "the chains were not shared out"
    assert one["resumed"]
    assert two["resumed"]
    assert one["odd"] == two["odd"]
    grad, stderr = np.array(one["grad"]), np.array(one["stderr"])
    assert np.linalg.norm(grad) > 0.1
    assert np.all(np.abs(np.array(two["grad"]) - grad) < stderr)
    np.testing.assert_allclose(two["stderr"], stderr, rtol=0.1)


if __name__ == "__main__":  # what the subprocess runs
    print(json.dumps(shared_out(Path(sys.argv[1]))))
