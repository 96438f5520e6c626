"""The classical Ising network, exactly: against the quantum one at g = 0, loops over states, and finite differences."""

import itertools
import tracemalloc

import dimod
import numpy as np
import pytest
from dwave.samplers import SimulatedAnnealingSampler

import qeqprop as qp
from qeqprop.classical import (
    Annealer,
    ExactEnumeration,
    HeatBath,
    Ising,
    SimulatedAnnealing,
    from_bqm,
    spin_blocks,
    to_bqm,
)  # fmt: skip

COMPLETE = list(itertools.combinations(range(6), 2))
COST = qp.ExpectationCost([qp.Z(1), qp.Z(0) * qp.Z(4) + 0.5 * qp.Z(2) - 1], lambda o, y: ((o - y) ** 2).sum())
TARGET = np.array([0.3, 0.2])


def problem(**options):
    net = Ising(6, COMPLETE, **options)
    rng = np.random.default_rng(1)
    return net, net.init_params(rng), rng.normal(size=net.input_shape)


def brute_force(net, params, inputs, temperature, function):
    """Mean of function(spins) and the free energy, in a loop over all configurations."""
    states = list(itertools.product((1, -1), repeat=net.n_sites))
    fields = np.array(params["h"])
    fields[list(net.input_sites)] += inputs[: len(net.input_sites)]
    for k, (m, j) in enumerate(net.input_edges):
        fields[j] += params["W"][k] * inputs[m]
    energies = np.array([
        -sum(J * s[i] * s[j] for J, (i, j) in zip(params["J"], net.edges, strict=True)) - np.dot(fields, s) for s in states
    ])  # fmt: skip
    weights = np.exp(-energies / temperature)
    values = np.array([function(np.array(s)) for s in states])
    return weights @ values / weights.sum(), -temperature * np.log(weights.sum())


@pytest.mark.parametrize("options", [{"input_sites": [0, 3]}, {"input_edges": [(0, 1), (2, 5), (1, 1)]}])
def test_is_the_transverse_field_network_without_transverse_field(options):
    net, params, inputs = problem(**options)
    quantum = qp.TransverseFieldIsing(6, COMPLETE, **options)
    still = {**params, "g": np.zeros(6)}
    ours = qp.linear_response(net, params, COST, TARGET, solver=ExactEnumeration(0.8), inputs=inputs)
    theirs = qp.linear_response(quantum, still, COST, TARGET, solver=qp.GibbsState(0.8), inputs=inputs)
    for name, value in ours.grad.items():
        assert np.linalg.norm(value) > 0.05
        np.testing.assert_allclose(value, theirs.grad[name], atol=1e-10)
    np.testing.assert_allclose(ours.free.energy.mean, theirs.free.energy.mean, rtol=1e-12)
    np.testing.assert_allclose(float(ours.loss), float(theirs.loss), rtol=1e-12)
    driven = net.with_inputs(inputs)
    mean = quantum.with_inputs(inputs).energy(still, theirs.free.state).mean
    np.testing.assert_allclose(driven.energy(params, ours.free.state).mean, mean, rtol=1e-12)


def test_enumeration_is_a_loop_over_states():
    net, params, inputs = problem(input_edges=[(0, 1), (1, 5), (1, 1)])
    free = qp.equilibrate(net, params, solver=ExactEnumeration(0.7), inputs=inputs)
    means, energy = brute_force(net, params, inputs, 0.7, lambda s: [s[2], s[0] * s[4], s[1] * s[3] * s[5]])
    found = free.state.expect_all((qp.Z(2), qp.Z(0) * qp.Z(4), qp.Z(1) * qp.Z(3) * qp.Z(5))).mean
    assert np.abs(means).min() > 0.01
    np.testing.assert_allclose(found, means, atol=1e-13)
    np.testing.assert_allclose(free.energy.mean, energy, rtol=1e-13)


def test_gradient_is_that_of_the_loss():
    """Linear response, EP and finite differences of the loss."""
    net, params, inputs = problem(input_sites=[0, 3])
    solver = ExactEnumeration(0.7)

    def loss(changed):
        return float(COST.cost(qp.equilibrate(net, changed, solver=solver, inputs=inputs).state, TARGET))

    exact = qp.ep_gradient(net, params, COST, TARGET, solver=solver, inputs=inputs)
    nudged = qp.ep_gradient(net, params, COST, TARGET, solver=solver, inputs=inputs, scheme=qp.richardson(0.02))
    for name in params:
        for k in range(len(params[name])):
            step = 1e-4 * (np.arange(len(params[name])) == k)
            slope = (loss(params | {name: params[name] + step}) - loss(params | {name: params[name] - step})) / 2e-4
            assert abs(slope - exact.grad[name][k]) < 1e-7
        assert np.abs(exact.grad[name]).max() > 0.1
        np.testing.assert_allclose(nudged.grad[name], exact.grad[name], atol=1e-5)


def test_zero_temperature_is_the_lowest_state_and_contrastive():
    net, params, _ = problem()
    cold = qp.equilibrate(net, params, solver=ExactEnumeration(0))
    means, _ = brute_force(net, params, (), 1e-2, lambda s: s)
    np.testing.assert_allclose(cold.state.products(np.arange(6), np.full(6, -1)).mean, np.round(means), atol=1e-12)
    assert cold.stats["gap"] > 0
    assert cold.energy.mean == pytest.approx(cold.stats["lowest_energy"])
    cost = qp.ObservableCost(qp.Z(1) * np.sign(means[1]))
    zero = qp.linear_response(net, params, cost, solver=ExactEnumeration(0))
    assert all(not np.any(value) for value in zero.grad.values())
    out = qp.ep_gradient(net, params, cost, solver=ExactEnumeration(0), scheme=qp.classical.temperature.contrast(50.0))
    assert np.any(out.grad["h"])  # the nudge has flipped the spin
    assert np.all(np.isnan(out.truncation["h"]))
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.equilibrate(Ising(2, [(0, 1)]), {"J": [1.0], "h": [0.0, 0.0]}, solver=ExactEnumeration(0))


@pytest.mark.parametrize("table_bits", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_blocks_change_nothing(monkeypatch, table_bits, temperature):
    net, params, inputs = problem(input_edges=[(0, 1), (1, 5), (1, 1)])
    cost = qp.ObservableCost(qp.Z(1) * qp.Z(4) + qp.Z(2))
    answers = []
    for bits in (spin_blocks.TABLE_BITS, table_bits):
        monkeypatch.setattr(spin_blocks, "TABLE_BITS", bits)
        out = qp.linear_response(net, params, cost, solver=ExactEnumeration(temperature), inputs=inputs)
        long = qp.Z(0) * qp.Z(1) * qp.Z(3) * qp.Z(5) + qp.Z(2) * qp.Z(3) * qp.Z(4)
        answers.append(out.grad | {"energy": out.free.energy.mean, "long": out.free.state.expect(long).mean,
                                   "gap": out.free.stats.get("gap", 0.0)})  # fmt: skip
    assert abs(answers[0]["long"]) > 0.01
    assert temperature == 0 or all(np.any(value) for name, value in answers[0].items() if name != "gap")
    for name, value in answers[0].items():
        np.testing.assert_allclose(answers[1][name], value, atol=1e-12)


def test_memory_does_not_grow_with_the_number_of_configurations():
    net = Ising(20, [(i, (i + 1) % 20) for i in range(20)])
    params = net.init_params(0)
    tracemalloc.start()
    ring = qp.linear_response(net, params, qp.ObservableCost(qp.Z(3) * qp.Z(7)), solver=ExactEnumeration(0.9))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # one table of 2^20 numbers has 8e6 bytes
    still = {"J": params["J"], "h": np.zeros(20)}  # without fields the transfer matrices give Z
    weights = [np.exp(np.array([[j, -j], [-j, j]]) / 0.9) for j in params["J"]]
    free = qp.equilibrate(net, still, solver=ExactEnumeration(0.9))
    assert float(free.energy) == pytest.approx(-0.9 * np.log(np.trace(np.linalg.multi_dot(weights))), rel=1e-12)
    assert np.linalg.norm(ring.grad["J"]) > 0.01


def test_batch_is_the_mean_of_samples():
    net, params, _ = problem(input_sites=[0, 3])
    inputs, cost = np.random.default_rng(3).normal(size=(3, 2)), qp.ExpectationCost([qp.Z(1)])
    targets = np.array([[0.5], [-0.5], [1.0]])
    whole = qp.ep_gradient(net, params, cost, targets, solver=ExactEnumeration(1.0), inputs=inputs)
    each = [qp.ep_gradient(net, params, cost, y, inputs=x) for x, y in zip(inputs, targets, strict=True)]
    np.testing.assert_allclose(whole.grad["J"], np.mean([out.grad["J"] for out in each], axis=0), atol=1e-13)


def test_dimod_models_have_the_same_energies():
    net, params, inputs = problem(input_sites=[0, 3])
    driven = net.with_inputs(inputs)
    nudged = driven.nudged(COST.term(qp.equilibrate(driven, params).state, TARGET), 0.3)
    bqm, model = to_bqm(nudged, params), nudged.model(params)
    spins = np.random.default_rng(0).choice([-1, 1], size=(5, 6))
    ours = model.energies(spins)
    np.testing.assert_allclose(ours, bqm.energies((spins, range(6))), rtol=1e-12)
    assert ours == pytest.approx([driven.model(params).energies(s) + 0.3 * _term(nudged, s) for s in spins])
    back = from_bqm(bqm)
    np.testing.assert_allclose(back.system.model(back.params).energies(spins) + back.offset, ours, rtol=1e-12)
    binary = dimod.BinaryQuadraticModel({"x": 1.0, "y": -2.0}, {("x", "y"): 3.0}, 0.5, "BINARY")
    found = from_bqm(binary)
    energy = found.system.model(found.params).energies(np.array([1, -1])) + found.offset
    assert energy == pytest.approx(binary.energy(dict(zip(found.variables, (1, 0), strict=True))))


def _term(nudged, spins):
    """The nudge's energy of one configuration, from the definition of the cost's observables."""
    (term, _), values = nudged.nudges[0], (spins[1], spins[0] * spins[4] + 0.5 * spins[2] - 1)
    return term.weights @ np.array(values)


@pytest.mark.parametrize(
    "sampler",
    [SimulatedAnnealing(reads=64, sweeps=200), Annealer(SimulatedAnnealingSampler(), options={"num_reads": 20}),
     Annealer(dimod.ExactSolver())],
    ids=["ours", "dwave-samplers", "exact"],
)  # fmt: skip
def test_annealers_find_the_lowest_state(sampler):
    net = Ising(12, list(itertools.combinations(range(12), 2)))
    for seed in range(3):
        params = net.init_params(seed)
        exact = qp.equilibrate(net, params, solver=ExactEnumeration(0))
        found = qp.equilibrate(net, params, solver=sampler, key=seed)
        assert found.energy.mean == pytest.approx(float(exact.energy.mean))
        np.testing.assert_allclose(found.state.expect(qp.Z(3)).mean, exact.state.expect(qp.Z(3)).mean, atol=1e-9)
    again = qp.equilibrate(net, params, solver=sampler, key=seed)
    assert np.array_equal(again.state.spins, found.state.spins)


@pytest.mark.parametrize(
    "sampler",
    [
        SimulatedAnnealing(reheat=0.01),
        Annealer(
            SimulatedAnnealingSampler(),
            options={"num_reads": 20},
            reverse=lambda spins: {
                "initial_states": spins,
                "initial_states_generator": "tile",
                "beta_range": [50.0, 100.0],
            },
        ),
    ],
    ids=["ours", "dwave-samplers"],
)
def test_reverse_annealing_stays_at_the_free_state(sampler):
    """Two wells whose order the nudge turns: from random spins the nudged phase falls into the other one."""
    net, params = Ising(20, [(i, i + 1) for i in range(19)]), {"J": np.full(19, 1.0), "h": np.full(20, 1e-6)}
    term = qp.ObservableCost(qp.Z(0)).term(qp.equilibrate(net, params, solver=sampler, key=0).state, None)
    free = qp.equilibrate(net, params, solver=sampler, key=0)
    assert free.state.spins.min() == 1
    nudged = qp.equilibrate(net.nudged(term, 1e-3), params, solver=sampler, init=free, key=1)
    assert nudged.state.spins.min() == 1
    scratch = qp.equilibrate(net.nudged(term, 1e-3), params, solver=sampler, key=1)
    assert scratch.state.spins.max() == -1  # the nudged ground state is the other well


def test_annealers_are_saved_by_the_name_of_their_sampler(tmp_path):
    """A sampler may be a connection to a machine: what is loaded tells how it was found, and refuses to go on."""
    net, params, _ = problem()
    options = {"num_reads": 5, "beta_range": [0.1, 5.0], "interrupt_function": len}
    solver = Annealer(SimulatedAnnealingSampler(), options=options, reverse=lambda spins: {})
    out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(1)), solver=Annealer(dimod.ExactSolver()), key=0)
    loaded = qp.load(qp.save(tmp_path / "out", out))
    assert repr(loaded.solver) == repr(out.solver) == "Annealer(ExactSolver)"
    np.testing.assert_array_equal(loaded.free.state.spins, out.free.state.spins)
    again = qp.load(qp.save(tmp_path / "again", qp.load(qp.save(tmp_path / "solver", solver))))
    assert again.options == {"num_reads": 5, "beta_range": [0.1, 5.0], "interrupt_function": repr(len)}
    with pytest.raises(RuntimeError, match=r"knows its SimulatedAnnealingSampler by name only: make Annealer\("):
        qp.equilibrate(net, params, solver=again, key=0)


def test_annealed_contrast_is_exact_where_the_states_are():
    net, params, _ = problem()
    cost = qp.ObservableCost(qp.Z(1))
    exact = qp.ep_gradient(
        net, params, cost, solver=ExactEnumeration(0), scheme=qp.classical.temperature.contrast(-9.0)
    )
    scheme = exact.scheme
    found = qp.ep_gradient(net, params, cost, solver=SimulatedAnnealing(reheat=1.0), key=0, scheme=scheme)
    for name in params:
        np.testing.assert_allclose(found.grad[name], exact.grad[name], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ising(3, [(0, 1), (1, 0)]), "must have each pair once"),
        (lambda: Ising(3, [(0, 1)], input_sites=[3]), "distinct nodes 0 to 2"),
        (lambda: Ising(3, [(0, 1)], input_sites=[0], input_edges=[(0, 1)]), "exclude one another"),
        (lambda: Ising(3, [(0, 1)], input_edges=[(0, 3)]), "must end on sites 0 to 2"),
        (lambda: qp.equilibrate(Ising(2, [(0, 1)]), {"J": [1.0, 2.0], "h": [0, 0]}), r"`J` must have shape \(1,\)"),
        (lambda: qp.equilibrate(Ising(30, []), {"J": [], "h": [0.0] * 30}, solver=ExactEnumeration(1)), "at most 24"),
        (lambda: HeatBath(0.0), "At T = 0 use SimulatedAnnealing"),
        (lambda: ExactEnumeration(-1.0), "not negative"),
        (lambda: qp.classical.ParallelTempering([1.0, 0.5]), "ascending"),
        (lambda: SimulatedAnnealing(hottest=1, coldest=2), "must not be below"),
        (lambda: SimulatedAnnealing(reheat=2.0), "between 0 and 1"),
        (lambda: Annealer(3), "must be a dimod sampler"),
        (lambda: from_bqm(3), "must be a dimod"),
        (lambda: _gradient(qp.X(0)), "has an X or a Y"),
        (lambda: _gradient(qp.Z(0) * qp.Z(1) * qp.Z(2)), "at most two spins"),
        (lambda: _gradient(qp.Z(0), solver=SimulatedAnnealing(), scheme=qp.LinearResponse()), "no linear response"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def _gradient(observable, **options):
    return qp.ep_gradient(Ising(3, [(0, 1)]), {"J": [1.0], "h": [0.1] * 3}, qp.ObservableCost(observable), **options)
