"""The zero-variance response against exact diagonalisation: its identities, its bias, its error bars."""

import functools
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.precision import jax_float64
from qeqprop.core.status import Status
from qeqprop.quantum import vmc_response
from qeqprop.quantum.vmc_state import VariationalState
from qeqprop.quantum.zero_variance import Ansatz, features
from qeqprop.quantum.zero_variance_crossfit import cross_fit, halves

N = 6


def network():
    """Random all-to-all couplings, fields everywhere, and an X cost besides: no gradient vanishes by symmetry."""
    rng = np.random.default_rng(3)
    net = qp.TransverseFieldIsing(N, [(i, j) for i in range(N) for j in range(i)])
    params = {"J": rng.normal(size=15) / np.sqrt(N), "h": rng.normal(size=N) / 2, "g": rng.uniform(0.7, 1.3, N)}
    return net, params


COSTS = {"diagonal": qp.Z(5), "flips": qp.X(0) + 0.5 * qp.Z(1) * qp.Z(2)}


@functools.cache
def exact():
    net, params = network()
    ground = qp.equilibrate(net, params)
    psi = np.abs(ground.state.amplitudes.real)
    bits = (np.arange(1 << N)[:, None] >> np.arange(N - 1, -1, -1)) & 1
    return net, params, psi, 1.0 - 2.0 * bits


@functools.cache
def gradient(cost):
    net, params, _, _ = exact()
    return qp.ep_gradient(net, params, qp.ObservableCost(COSTS[cost]), scheme=qp.LinearResponse()).grad


def flat(tree):
    return np.concatenate([tree[name] for name in ("J", "h", "g")], axis=-1)


def log_psi(variables, sigma):
    """The exact ground state; its tangent space: products of spins."""
    jnp = jax_float64().numpy
    table, products = variables["table"], variables["products"]
    index = ((1 - sigma) / 2 @ (2.0 ** jnp.arange(N - 1, -1, -1))).astype(int)
    padded = jnp.concatenate([sigma, jnp.ones((*sigma.shape[:-1], 1))], axis=-1)
    return table[index] + jnp.prod(padded[..., products], axis=-1) @ variables["params"]["w"]


def variables(psi, order=3, distortion=0.0):
    """Products of up to `order` spins; `distortion` bends the state away from the ground state, at random."""
    sets = [c for k in range(1, order + 1) for c in combinations(range(N), k)]
    products = np.array([[*c, *[N] * (N - len(c))] for c in sets])
    noise = distortion * np.random.default_rng(0).normal(size=1 << N)
    return {"params": {"w": np.zeros(len(sets))}, "products": products, "table": np.log(psi) + noise}


def drawn(probabilities, sigma, seed, chains=64, length=16):
    """Independent samples, as chains."""
    rng = np.random.default_rng(seed)
    return sigma[rng.choice(len(sigma), size=(chains, length), p=probabilities)]


def state(samples, order=3, distortion=0.0):
    _, _, psi, _ = exact()
    made = variables(psi, order, distortion)
    parameters = SimpleNamespace(_apply_fun=log_psi, variables=made, sampler=None, n_parameters=0)
    return VariationalState(N, parameters, np.ones(N, int), samples)


def respond(seed, cost="diagonal", **options):
    net, params, psi, sigma = exact()
    term = qp.ObservableCost(COSTS[cost]).term(SimpleNamespace(expect=lambda _: qp.Estimate.exact(0.0)))
    return vmc_response.respond(state(drawn(psi**2, sigma, seed), **options), net, params, term, 1e-10)


def ansatz(**options):
    net, params, _, _ = exact()
    made = state(np.ones((1, 1, N)), **options)
    table = made.table((*net.operators(), COSTS["flips"]))
    observables = np.delete(table.matrix, len(net.operators()) - 1, axis=0)
    hamiltonian = net.strengths(params) @ table.matrix[:-1]
    return Ansatz(log_psi, made.variables, table, hamiltonian, observables, 64)


@pytest.mark.parametrize("distortion", [0.0, 0.3])
def test_the_generator_has_mean_zero_for_any_positive_state(distortion):
    _, _, _, sigma = exact()
    made = ansatz(distortion=distortion)
    log = np.asarray(made.variables["table"])
    weights = np.exp(2 * log) / np.exp(2 * log).sum()
    feats = features(made, sigma)
    scale = np.abs(np.asarray(feats.generated)).max(axis=0)
    assert np.all(np.abs(weights @ feats.generated) < 1e-12 * scale)
    assert np.std(np.asarray(feats.values)[:, -1]) < 1e-9 or distortion  # E_loc is constant in the ground state alone


@pytest.mark.parametrize(("order", "least", "most"), [(2, 1e-4, 0.2), (3, 1e-4, 2e-2), (N, 0.0, 1e-6)])
def test_a_full_sum_is_exact_up_to_the_tangent_space(order, least, most):
    _, _, psi, sigma = exact()
    fitted = cross_fit(ansatz(order=order), sigma[None], psi**2, 1e-13)
    grad = fitted.estimate([part.response for part in fitted.respond(27, 27)])
    assert least <= np.linalg.norm(grad.mean - flat(gradient("flips"))) / np.linalg.norm(grad.mean) < most
    assert np.all(grad.stderr == 0)


@functools.cache
def repeated(cost):
    outs = [respond(seed, cost) for seed in range(24)]
    return np.array([flat(o.grad.mean) for o in outs]), np.array([flat(o.grad.stderr) for o in outs]), outs


@functools.cache
def limit():
    """What infinitely many samples give in the same tangent space: the exact gradient of the X cost up to 1 %."""
    _, _, psi, sigma = exact()
    fitted = cross_fit(ansatz(), sigma[None], psi**2, 1e-4)
    return fitted.estimate([part.response for part in fitted.respond(27, 27)]).mean


def test_error_bars_are_true():
    values, errors, _ = repeated("flips")
    z = (values - limit()) / errors
    assert 0.9 < np.std(z) < 1.2, "error bars are neither too small nor too wide"
    assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98
    pooled = (values.mean(axis=0) - limit()) / np.sqrt((errors**2).mean(axis=0) / len(values))
    assert np.sqrt(np.mean(pooled**2)) < 2


@pytest.mark.parametrize("cost", COSTS)
def test_the_gradient_is_that_of_exact_diagonalisation(cost):
    values, _, outs = repeated(cost)
    reference = flat(gradient(cost))
    assert np.linalg.norm(reference) > 0.2
    relative = np.linalg.norm(values - reference, axis=1) / np.linalg.norm(reference)
    assert np.median(relative) < 0.04
    assert np.linalg.norm(values.mean(axis=0) - reference) < 0.02 * np.linalg.norm(reference)
    assert all(out.status == Status.OK for out in outs)


def test_it_beats_two_phases_and_the_plain_response():
    """Equal samples; the two phases are ideal: independent exact nudged states at beta = 0.1.

    400 to 540 times on six spins; one more control of the same kind would give more, and error bars that are sometimes far
    too small (see `CrossFit.respond`).
    """
    net, params, _, _ = exact()
    free = qp.equilibrate(net, params)
    variances = [1 - float(free.state.expect(o)) ** 2 for o in net.operators()[:-1]]
    two_phase = sum(variances) / (2 * 0.1**2 * 512)  # two phases of 512 independent shots: ((a - b)/(2 beta))
    values, _, outs = repeated("diagonal")
    mine = np.mean((values - flat(gradient("diagonal"))) ** 2, axis=0).sum()
    assert two_phase / mine > 350
    assert 0.7 < np.mean([out.stats["plain_agreement"] for out in outs]) < 1.4


def test_expectation_values_have_small_and_true_errors():
    net, params, psi, sigma = exact()
    observables = [*COSTS.values(), qp.X(3), qp.Z(0) * qp.Z(1)]
    free = qp.equilibrate(net, params)
    reference = np.array([float(free.state.expect(o)) for o in observables])
    z, gains = [], []
    for seed in range(12):
        made = state(drawn(psi**2, sigma, seed))
        reduced, raw = vmc_response.expect(made, net, params, observables), made.expect_all(observables)
        z.append((reduced.mean - reference) / reduced.stderr)
        gains.append(raw.stderr / reduced.stderr)
    assert 0.7 < np.std(z) < 1.35
    assert np.median(gains) > 8


def test_a_poor_state_and_poor_fits_are_reported():
    good, poor = respond(0), respond(0, order=1)
    assert good.status == Status.OK
    assert "advice" not in good.stats
    assert good.stats["v_score"] < 1e-12
    assert good.stats["r2_cost"] > 0.98
    assert poor.status == Status.INACCURATE
    assert "R^2" in poor.stats["advice"]
    apart = poor.stats["r2_by_parameter"]  # single spins hold the response to fields, and less of that to couplings
    assert apart["J"] < 0.5 < apart["h"] - 0.1
    assert min(apart.values()) < poor.stats["r2_forces"] < max(apart.values())
    assert f"(J {apart['J']:.2f}, h {apart['h']:.2f}, g {apart['g']:.2f})" in poor.stats["advice"]
    assert min(good.stats["r2_by_parameter"].values()) > 0.9
    net, params, psi, sigma = exact()
    bent = variables(psi, distortion=0.1)["table"]
    samples = drawn(np.exp(2 * bent) / np.exp(2 * bent).sum(), sigma, 0)
    term = qp.ObservableCost(COSTS["diagonal"]).term(SimpleNamespace(expect=lambda _: qp.Estimate.exact(0.0)))
    out = vmc_response.respond(state(samples, distortion=0.1), net, params, term, 1e-10)
    assert out.status == Status.INACCURATE
    assert "V-score" in out.stats["advice"]
    assert out.stats["systematic_ratio"] > 5 * good.stats["systematic_ratio"]


def test_several_costs_share_one_fit():
    net, params, psi, sigma = exact()
    made = state(drawn(psi**2, sigma, 0))
    blank = SimpleNamespace(expect=lambda _: qp.Estimate.exact(0.0))
    terms = [qp.ObservableCost(observable).term(blank) for observable in COSTS.values()]
    both = vmc_response.respond_all(made, net, params, terms, 1e-10)
    for out, term in zip(both, terms, strict=True):
        alone = vmc_response.respond(made, net, params, term, 1e-10)
        np.testing.assert_allclose(flat(out.grad.mean), flat(alone.grad.mean), rtol=1e-9, atol=1e-12)


def test_halves_keep_chains_apart():
    labels = np.arange(70)[:, None, None] * np.ones((70, 5, 2))
    (first, second), blocks = halves(labels)
    assert blocks == 35
    assert set(first[:, 0]) == set(range(35))
    assert set(second[:, 0]) == set(range(35, 70))
    with pytest.raises(ValueError, match=r"needs 128 samples or more in 64 blocks"):
        halves(np.ones((4, 20, 2)))


def test_refusals():
    net, params, psi, sigma = exact()
    made = state(drawn(psi**2, sigma, 0))
    blank = SimpleNamespace(expect=lambda _: qp.Estimate.exact(0.0))
    term = qp.ObservableCost(qp.Z(0)).term(blank)
    with pytest.raises(ValueError, match="positive off-diagonal elements"):
        vmc_response.respond(made, net, {**params, "g": -params["g"]}, term, 1e-10)
    with pytest.raises(ValueError, match="odd number of Y"):
        vmc_response.respond(made, net, params, qp.ObservableCost(qp.Y(0)).term(blank), 1e-10)
    with pytest.raises(TypeError, match="must be a NetKet variational state"):
        qp.quantum.static_response(psi, qp.X(0), qp.Z(0), [qp.Z(0)])


def test_static_response_of_a_netket_state():
    import netket as nk

    net, params, _, _ = exact()
    H = sum((o * float(w) for o, w in zip(net.operators(), net.strengths(params), strict=True)), qp.quantum.PauliSum())
    hilbert = nk.hilbert.Spin(0.5, N)
    full = nk.vqs.FullSumState(hilbert, nk.models.LogStateVector(hilbert, param_dtype=float), seed=0)
    full.variables = {"params": {"logstate": np.log(exact()[2])}}
    perturbations = [o for _, group in net.terms for o in group]
    out = qp.quantum.static_response(full, H, COSTS["diagonal"].to_netket(N), perturbations)
    np.testing.assert_allclose(out.response.mean, flat(gradient("diagonal")), atol=1e-7)
    assert out.status == Status.OK
    assert "d<A>/dB" in repr(out)
    chains = nk.vqs.MCState(
        nk.sampler.ExactSampler(hilbert),
        apply_fun=log_psi,
        variables=variables(exact()[2]),
        n_samples=2048,
        sampler_seed=1,
    )
    sampled = qp.quantum.static_response(chains, H, COSTS["diagonal"], perturbations)
    z = (sampled.response.mean - flat(gradient("diagonal"))) / sampled.response.stderr
    assert np.std(z) < 2
    assert np.linalg.norm(sampled.response.stderr) < 0.05 * np.linalg.norm(sampled.response.mean)
