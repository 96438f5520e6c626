"""Zero-variance expectation values: errors that are small and true, in the loss, the error signal and the gradient."""

import functools
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.precision import jax_float64
from qeqprop.core.system import replaced
from qeqprop.quantum import vmc_response
from qeqprop.quantum.vmc_state import VariationalState

N = 6
NET = qp.TransverseFieldIsing(N, [(i, j) for i in range(N) for j in range(i)])
RNG = np.random.default_rng(3)
PARAMS = {"J": RNG.normal(size=15) / np.sqrt(N), "h": RNG.normal(size=N) / 2, "g": RNG.uniform(0.7, 1.3, N)}
OBSERVABLES = [qp.Z(0), qp.Z(3), qp.X(2), qp.Z(0) * qp.Z(1), qp.X(0) + 0.5 * qp.Z(1) * qp.Z(2)]
COST = qp.ExpectationCost(OBSERVABLES[:3])
SEEDS = range(16)


def flat(tree):
    return np.concatenate([tree[name] for name in ("J", "h", "g")])


@functools.cache
def exact():
    ground = qp.equilibrate(NET, PARAMS)
    psi = np.abs(ground.state.amplitudes.real)
    bits = (np.arange(1 << N)[:, None] >> np.arange(N - 1, -1, -1)) & 1
    return psi, 1.0 - 2.0 * bits, np.array([float(ground.state.expect(o)) for o in OBSERVABLES])


def log_psi(variables, sigma):
    """The exact ground state; its tangent space: products of spins."""
    jnp = jax_float64().numpy
    index = ((1 - sigma) / 2 @ (2.0 ** jnp.arange(N - 1, -1, -1))).astype(int)
    padded = jnp.concatenate([sigma, jnp.ones((*sigma.shape[:-1], 1))], axis=-1)
    return variables["table"][index] + jnp.prod(padded[..., variables["products"]], -1) @ variables["params"]["w"]


def drawn(seed, order=3):
    """Samples of the exact ground state with the tangent space of products of up to `order` spins."""
    psi, sigma, _ = exact()
    sets = [c for k in range(1, order + 1) for c in combinations(range(N), k)]
    products = np.array([[*c, *[N] * (N - len(c))] for c in sets])
    variables = {"params": {"w": np.zeros(len(sets))}, "products": products, "table": np.log(psi)}
    samples = sigma[np.random.default_rng(seed).choice(len(sigma), size=(64, 16), p=psi**2)]
    vstate = SimpleNamespace(_apply_fun=log_psi, variables=variables, sampler=None, n_parameters=len(sets))
    plain = VariationalState(N, vstate, np.ones(N, int), samples)
    return plain, plain.controlled(NET.pauli_sum(PARAMS))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def test_expectation_values_have_small_and_true_errors():
    z, gains = [], []
    for seed in SEEDS:
        plain, controlled = (state.expect_all(OBSERVABLES) for state in drawn(seed))
        z.append((controlled.mean - exact()[2]) / controlled.stderr)
        gains.append(plain.stderr / controlled.stderr)
    assert 0.75 < rms(z) < 1.3, "error bars are neither too small nor too wide"
    assert 0.88 < np.mean(np.abs(z) < 1.96) < 0.99
    assert rms(np.mean(z, axis=0)) * np.sqrt(len(SEEDS)) < 2, "a bias"
    assert np.median(gains) > 4


def test_a_useless_fit_costs_nothing():
    plain, controlled = drawn(0, order=1)
    random = np.random.default_rng(1).normal(size=(1024, 4))
    assert np.all((random - controlled.controls.values(random)).std(axis=0) <= random.std(axis=0) * (1 + 1e-12))
    ratios = controlled.expect_all(OBSERVABLES).stderr / plain.expect_all(OBSERVABLES).stderr
    assert np.all(ratios < 1.1)


def test_the_loss_has_the_error_of_the_controls():
    plain, controlled = drawn(0)
    target = np.zeros(3)
    small, large = COST.cost(controlled, target), COST.cost(plain, target)
    truth = float(np.sum(exact()[2][:3] ** 2))
    assert small.stderr < large.stderr / 4
    assert abs(float(small) - truth) < 4 * small.stderr


def test_the_error_of_the_error_signal_is_in_the_error_of_the_gradient():
    """Targets so close to the outputs that the noise of the error signal is most of the gradient's."""
    target = exact()[2][:3] - np.array([0.004, -0.003, 0.005])
    reference = flat(qp.ep_gradient(NET, PARAMS, COST, target).grad)
    assert np.linalg.norm(reference) > 1e-3
    true, blind = [], []
    for seed in SEEDS:
        state = drawn(seed)[1]
        term = COST.term(state, target)
        out = vmc_response.respond(state, NET, PARAMS, term, 1e-8)
        fixed = vmc_response.respond(state, NET, PARAMS, replaced(term, replicas=None), 1e-8)
        np.testing.assert_allclose(flat(out.grad.mean), flat(fixed.grad.mean), rtol=1e-9)
        true.append((flat(out.grad.mean) - reference) / flat(out.grad.stderr))
        blind.append((flat(out.grad.mean) - reference) / flat(fixed.grad.stderr))
    assert 0.7 < rms(true) < 1.35
    assert rms(blind) > 3, "the error signal has no error: the test compares nothing"


def test_too_few_samples_are_refused():
    state = replaced(drawn(0)[0], samples=np.ones((8, 8, N)))
    with pytest.raises(ValueError, match="need 128 samples or more, but there are 64"):
        state.controlled(qp.X(0))
