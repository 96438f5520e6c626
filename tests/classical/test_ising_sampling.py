"""Sampled spins: the random stream, and every sampler against the enumeration of all states."""

import itertools

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import ExactEnumeration, HeatBath, Ising, ParallelTempering, SimulatedAnnealing, SpinEnsemble
from qeqprop.classical.spin_chains import Chains
from qeqprop.classical.spin_kernels import LANES, energies, stream

MASK = (1 << 32) - 1


def glass(n=10, seed=0, **options):
    """Random couplings between all pairs, with fields."""
    net = Ising(n, list(itertools.combinations(range(n), 2)), **options)
    rng = np.random.default_rng(seed)
    return net, {**net.init_params(rng), "h": 0.3 * rng.normal(size=n)}


SAMPLERS = {
    "heat bath": (HeatBath(1.0, records=60, thin=3), 1.0),
    "heat bath, correlated": (HeatBath(0.6, records=400, burn_in=400, chains=48), 0.6),
    "tempering": (ParallelTempering([0.4, 0.7, 1.2, 2.0], records=100, thin=2), 0.4),
    "two temperatures": (ParallelTempering([0.8, 1.3], records=150), 0.8),
}


def xoshiro128plus(words):
    """The reference stream of Blackman and Vigna in Python integers."""
    s = [int(word) for word in words]
    while True:
        yield (s[0] + s[3]) & MASK
        t = s[1] << 9 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = (s[3] << 11 | s[3] >> 21) & MASK


def test_random_stream_is_the_reference_stream():
    words = np.random.default_rng(0).integers(0, MASK, size=(2, 4, LANES), dtype=np.uint32, endpoint=True)
    found = stream(words.copy(), 200)
    for block, lane in ((0, 0), (1, 17), (1, LANES - 1)):
        bits = list(itertools.islice(xoshiro128plus(words[block, :, lane]), 200))
        expected = (np.float32([b >> 8 for b in bits]) + np.float32(0.5)) * np.float32(2.0**-24)
        np.testing.assert_array_equal(found[:, block, lane], expected)


def test_stream_is_uniform_and_lanes_are_independent():
    words = np.random.SeedSequence(1).generate_state(4 * LANES).reshape(1, 4, LANES)
    draws = stream(words, 20_000)[:, 0, :].astype(float)
    counts = np.histogram(draws, 64, (0, 1))[0]
    chi = np.sum((counts - draws.size / 64) ** 2) / (draws.size / 64)
    assert abs(chi - 63) < 4 * np.sqrt(2 * 63)
    pairs = np.corrcoef(draws, rowvar=False)[np.triu_indices(LANES, 1)] * np.sqrt(len(draws))
    assert abs(pairs.std() - 1) < 0.1
    assert np.abs(pairs).max() < 5
    serial = np.mean((draws[1:] - 0.5) * (draws[:-1] - 0.5)) * 12 * np.sqrt(draws.size)
    assert abs(serial) < 4


def test_a_single_spin_has_its_magnetisation_at_every_field():
    """Free spins in fields from weak to frozen: tanh(h/T), with binomial errors."""
    fields = np.concatenate([np.linspace(-3, 3, 61), [-60.0, 60.0, 1e6]])
    net = Ising(len(fields), [])
    state = qp.equilibrate(net, {"J": [], "h": fields}, solver=HeatBath(0.7, records=2000), key=0).state
    found, exact = state.products(np.arange(64), np.full(64, -1)).mean, np.tanh(fields / 0.7)
    z = (found - exact)[:61] / np.sqrt((1 - exact[:61] ** 2) / (64 * 2000))
    assert abs(z.mean()) < 0.5
    assert 0.7 < z.std() < 1.3
    np.testing.assert_array_equal(found[61:], [-1.0, 1.0, 1.0])


def test_compiled_energies():
    net, params = glass(input_sites=[1, 2])
    model = net.with_inputs(np.random.default_rng(0).normal(size=(3, 2))).model(params)
    chains = Chains(model, 30, (1, 2, 3, 4))  # 90 chains: one block and a part of another
    chains.sweep(np.ones(3))
    np.testing.assert_allclose(chains.energies(), model.energies(chains.configurations()), rtol=1e-5)
    assert energies(chains.spins, chains.fields, *chains.couplings).shape == (2, LANES)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_agree_with_enumeration(name):
    """Means, gradients and free energies over many seeds: z-scores of mean 0 and width 1."""
    solver, temperature = SAMPLERS[name]
    net, params = glass()
    cost = qp.ExpectationCost([qp.Z(1), qp.Z(0) * qp.Z(4)], lambda o, y: (o * y).sum())
    target = np.array([1.0, -0.7])
    exact = qp.ep_gradient(net, params, cost, target, solver=ExactEnumeration(temperature))
    sites = np.arange(10)
    means = exact.free.state.products(sites, np.full(10, -1)).mean
    assert np.abs(means).max() > 0.2
    assert np.linalg.norm(exact.grad["J"]) > 0.3
    scores = {"mean": [], "J": [], "h": [], "free energy": []}
    for seed in range(16):
        out = qp.ep_gradient(net, params, cost, target, solver=solver, key=seed)
        found = out.free.state.products(sites, np.full(10, -1))
        scores["mean"].append((found.mean - means) / found.stderr)
        for part in ("J", "h"):
            scores[part].append((out.grad[part] - exact.grad[part]) / out.stderr[part])
        energy = out.free.energy
        scores["free energy"].append((energy.mean - exact.free.energy.mean) / energy.stderr)
    for part, z in scores.items():
        assert np.sqrt(np.mean(np.square(z))) < 1.35, part
        assert np.sqrt(np.mean(np.square(z))) > (0.4 if part == "free energy" else 0.7), part
        assert abs(np.mean(z)) < (1.2 if part == "free energy" else 0.4), part


def test_covariance_of_a_cost_that_is_one_of_the_couplings():
    """The spin that is averaged over is in the cost and in the force: with a pair, alone, and both of them."""
    net, params = glass(5)
    for observable in (qp.Z(0) * qp.Z(1), qp.Z(1) * qp.Z(4) - 2 * qp.Z(1), qp.Z(4) + 3):
        cost = qp.ObservableCost(observable)
        exact = qp.ep_gradient(net, params, cost)
        z = []
        for seed in range(6):
            out = qp.ep_gradient(net, params, cost, solver=HeatBath(1.0), key=seed)
            z.append([(out.grad[n] - exact.grad[n]) / out.stderr[n] for n in ("h", "J")])
        flat = np.concatenate([part for pair in z for part in pair])
        assert np.abs(exact.grad["J"]).max() > 0.1
        assert 0.7 < flat.std() < 1.3
        assert np.abs(flat).max() < 5


def test_covariance_beats_two_phases_at_equal_samples():
    net, params = glass(8)
    cost = qp.ObservableCost(qp.Z(1))
    exact = qp.ep_gradient(net, params, cost)
    errors = {"covariance": [], "two-phase": []}
    for seed in range(12):
        runs = {
            "covariance": qp.ep_gradient(net, params, cost, solver=HeatBath(1.0, records=200), key=seed),
            "two-phase": qp.ep_gradient(
                net, params, cost, solver=HeatBath(1.0), scheme=qp.centered(0.4), key=seed, throw=False
            ),
        }
        for name, out in runs.items():
            errors[name].append(np.concatenate([out.grad[part] - exact.grad[part] for part in ("J", "h")]))
    rmse = {name: np.sqrt(np.mean(np.square(error))) for name, error in errors.items()}
    assert rmse["two-phase"] > 1.5 * rmse["covariance"]


def test_two_phase_gradient_and_its_errors():
    """Centered EP at a finite nudge is the exact difference quotient, within paired errors."""
    net, params = glass(8)
    cost = qp.ObservableCost(qp.Z(1))
    scheme = qp.centered(0.3)
    exact = qp.ep_gradient(net, params, cost, solver=ExactEnumeration(1.0), scheme=scheme)
    z = []
    for seed in range(12):
        out = qp.ep_gradient(net, params, cost, solver=HeatBath(1.0), scheme=scheme, key=seed)
        z.append((out.grad["J"] - exact.grad["J"]) / out.stderr["J"])
    assert 0.7 < np.std(z) < 1.3
    assert abs(np.mean(z)) < 0.4


@pytest.mark.parametrize("name", ["heat bath", "two temperatures"])
def test_batches(name):
    solver, temperature = SAMPLERS[name]
    net, params = glass(8, input_edges=[(0, 1), (1, 2), (1, 5)])
    rng = np.random.default_rng(2)
    inputs, targets = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    cost = qp.ExpectationCost([qp.Z(3), qp.Z(6)], lambda o, y: (o * y).sum())
    exact = qp.ep_gradient(net, params, cost, targets, solver=ExactEnumeration(temperature), inputs=inputs)
    z = []
    for seed in range(8):
        out = qp.ep_gradient(net, params, cost, targets, solver=solver, inputs=inputs, key=seed)
        assert out.losses.shape == (5,)
        z.append([(out.grad[n] - exact.grad[n]) / out.stderr[n] for n in ("J", "h", "W")])
    for part, scores in zip(("J", "h", "W"), zip(*z, strict=True), strict=True):
        assert np.abs(exact.grad[part]).max() > 0.05
        assert 0.7 < np.std(scores) < 1.35
    energy = net.with_inputs(inputs).energy(params, out.free.state)
    np.testing.assert_allclose(
        energy.mean, net.with_inputs(inputs).model(params).energies(out.free.state.spins).mean(axis=(1, 2)), rtol=1e-12
    )
    pairs = qp.ExpectationCost([qp.Z(3) * qp.Z(6)], lambda o, y: (o * y[:1]).sum())
    with pytest.raises(ValueError, match="couples the spins"):
        qp.ep_gradient(net, params, pairs, targets, solver=solver, inputs=inputs, scheme=qp.centered(0.1), key=0)


def test_seeds_give_the_same_numbers_and_nudged_phases_share_them():
    net, params = glass()
    solver, cost = HeatBath(1.0), qp.ObservableCost(qp.Z(1))
    first, again, other = (qp.equilibrate(net, params, solver=solver, key=key) for key in (3, 3, 4))
    assert np.array_equal(first.state.spins, again.state.spins)
    assert not np.array_equal(first.state.spins, other.state.spins)
    nudged = net.nudged(cost.term(first.state, None), 0.05)
    paired = qp.equilibrate(nudged, params, solver=solver, init=first, key=9).state.spins
    assert np.mean(paired == first.state.spins) > 0.75
    with pytest.raises(TypeError, match="must be an equilibrium of HeatBath"):
        qp.equilibrate(net, params, solver=solver, init=qp.equilibrate(net, params, solver=ExactEnumeration(1.0)))


def test_chains_that_remember_their_start_are_reported():
    """A cold ferromagnet: single spins stay in one orientation, exchanges with hot replicas do not."""
    net, params = Ising(12, list(itertools.combinations(range(12), 2))), {"J": np.full(66, 0.5), "h": np.full(12, 1e-3)}
    stuck = qp.equilibrate(net, params, solver=HeatBath(0.8), key=0)
    assert stuck.stats["r_hat"] > 2
    assert stuck.status == qp.Status.INACCURATE
    with pytest.warns(qp.AccuracyWarning, match="R-hat"):
        out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(0)), solver=HeatBath(0.8), key=0)
    assert "R-hat" in out.stats["advice"]
    ladder = ParallelTempering([0.8, 1.4, 2.2, 3.2, 4.5, 6.5, 10.0], records=300, thin=4)
    moved = qp.equilibrate(net, params, solver=ladder, key=0)
    assert moved.stats["r_hat"] < 1.2
    assert moved.stats["exchange_rate"] > 0.1
    spin = moved.state.expect(qp.Z(0))
    exact = qp.equilibrate(net, params, solver=ExactEnumeration(0.8)).state.expect(qp.Z(0))
    assert 0 < spin.stderr < 0.2
    assert abs(spin.mean - exact.mean) < 4 * spin.stderr


@pytest.mark.parametrize("solver", [HeatBath(1.0), SimulatedAnnealing(), ExactEnumeration(1.0)], ids=lambda s: s.name)
def test_results_are_saved(solver, tmp_path):
    net, params = glass(5)
    key = 0 if solver.stochastic else None
    out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(0)), solver=solver, key=key)
    qp.save(tmp_path / "out.npz", out)
    back = qp.load(tmp_path / "out.npz")
    assert repr(back) == repr(out)
    assert back.free.state.expect(qp.Z(2)).mean == out.free.state.expect(qp.Z(2)).mean


def test_states_say_what_they_are():
    state = SpinEnsemble(np.ones((2, 4, 3, 5), np.int8))
    assert repr(state) == "SpinEnsemble(batch of 2, 5 spins, 4 chains, 3 records each)"
    np.testing.assert_array_equal(state.r_hat(), 1.0)
    with pytest.raises(ValueError, match="read site 7"):
        state.expect(qp.Z(7))
    with pytest.raises(ValueError, match=r"must hold \+1 and -1, but has 0"):
        SpinEnsemble(np.array([[[1, 0, 1]]], np.int8))
    with pytest.raises(ValueError, match=r"n_chains, n_records, n_sites\), but has \(5,\)"):
        SpinEnsemble(np.ones(5, np.int8))
