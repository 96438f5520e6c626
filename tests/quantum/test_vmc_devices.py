"""Samples in chunks and over devices: the numbers stay the same, and the memory within its budget."""

import json
import os
import socket
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


def shared_out():
    """A state near the ground state, and its gradient on all devices of all processes. What is relaxed and how is NetKet's."""
    net = qp.TransverseFieldIsing(3, EDGES[:2])
    params = {"J": np.array([0.3, 0.2]), "h": np.full(3, 0.5), "g": np.ones(3)}
    vstate = nk.vqs.MCState(
        default_sampler(3, 32, False), default_model(3, net.edges), n_samples=512, seed=1, sampler_seed=2
    )
    product = {name: 0 * np.asarray(value) for name, value in vstate.parameters.items()}
    product["field"] = np.full(3, 0.5 * np.arcsinh(0.5))  # the ground state at J = 0
    vstate.parameters = product
    solver = qp.VariationalMonteCarlo(state=vstate, max_steps=0)
    return qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(0) * qp.Z(2)), solver=solver, key=1, throw=False)


def numbers(out):
    """As plain numbers, and how the chains are shared out."""
    vstate = out.free.state.vstate
    odd = jax.jit(lambda s: sample_map(lambda x: (x**2).sum(), s, 4))(np.arange(14.0).reshape(7, 2))
    return {
        "shares": [shard.data.shape[0] for shard in vstate.samples.addressable_shards],
        "grad": np.concatenate(list(out.grad.values())).tolist(),
        "stderr": np.concatenate(list(out.stderr.values())).tolist(),
        "energy": [float(out.free.energy), float(out.free.energy.stderr)],
        "odd": np.asarray(odd).tolist(),
    }


def reloaded(out, folder):
    """How a saved state is shared out, and whether it goes on with the same samples."""
    loaded = qp.load(qp.save(folder / "free", out.free)).state.vstate
    shares = [shard.data.shape[0] for shard in loaded.samples.addressable_shards]
    return {"loaded shares": shares, "resumed": bool((loaded.sample() == out.free.state.vstate.sample()).all())}


JOINED = """
import json, runpy, sys, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{sys.argv[2]}", num_processes=2, process_id=int(sys.argv[3]))
this = runpy.run_path(sys.argv[1])
print(json.dumps(this["numbers"](this["shared_out"]())))
"""
"""Processes must be joined before NetKet is imported: it asks for the devices."""


def started(*arguments, devices):
    """Python with this file's environment."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "NETKET_NO_TIPS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error::UserWarning", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def finished(*processes):
    """What they printed last."""
    try:
        ended = [process.communicate(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


def test_two_devices_and_two_processes_give_the_gradient_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (two,) = finished(started(__file__, tmp_path, devices=2))
    joined = finished(*(started("-c", JOINED, __file__, port, rank, devices=1) for rank in (0, 1)))
    out = shared_out()
    one = numbers(out) | reloaded(out, tmp_path)
    assert one["shares"] == one["loaded shares"] == [32]
    assert two["shares"] == two["loaded shares"] == [16, 16], "the chains were not shared out"
    assert [process["shares"] for process in joined] == [[16], [16]]
    assert one["resumed"]
    assert two["resumed"]
    for other in (two, *joined):
        assert other["odd"] == one["odd"]
        grad, stderr = np.array(one["grad"]), np.array(one["stderr"])
        assert np.linalg.norm(grad) > 0.1
        assert np.all(np.abs(np.array(other["grad"]) - grad) < 4 * np.hypot(stderr, other["stderr"]))
        assert np.linalg.norm(other["stderr"]) == pytest.approx(np.linalg.norm(stderr), rel=0.3)
    for process in joined:  # the same chains with the same random numbers
        for name in ("grad", "stderr", "energy"):
            np.testing.assert_allclose(process[name], two[name], rtol=1e-6, atol=1e-9)


if __name__ == "__main__":  # what the process with two devices runs
    result = shared_out()
    print(json.dumps(numbers(result) | reloaded(result, Path(sys.argv[1]))))
