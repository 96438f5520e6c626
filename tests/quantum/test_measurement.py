"""Shots: settings, samples, standard errors against exact variances, read-out errors, outputs, oscillators."""

from itertools import product
from typing import Any

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.estimate import combine
from qeqprop.core.nudge import WeightedObservables
from qeqprop.quantum import MeasuredOscillators, MeasuredState, ThermalState, commuting_bases, preparations
from qeqprop.quantum.commuting import covers, read_table, single_bases
from qeqprop.quantum.jackknife import block_sizes, block_sums, leave_one_out
from qeqprop.quantum.shots import draw, probabilities

EXACT = qp.ExactDiagonalization()
NET = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
PARAMS = {"J": np.array([1.0, 0.7]), "h": np.array([0.3, -0.2, 0.5]), "g": np.array([0.9, 1.1, 0.8])}
COST = qp.ObservableCost(qp.Z(2))
PAULI = {
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def copies(count: int) -> qp.TransverseFieldIsing:
    """The same network many times: independent repetitions of a measurement in one call."""
    return NET.with_inputs(np.zeros((count, 1)))


def forces(system: Any, solver: Any, beta: float, key: int = 0) -> Any:
    """Forces at a nudge by COST; of copies with the batch axis first."""
    batch = () if system.batch_size is None else (system.batch_size,)
    term = WeightedObservables(COST.observables, np.ones((*batch, 1)))
    seed = np.random.SeedSequence([key, int(1e6 * abs(beta)), int(beta < 0)])
    return system.param_grad(PARAMS, solver.solve(system.nudged(term, beta), PARAMS, key=seed).state)


def assert_standard_normal(z: np.ndarray, effective: int | None = None) -> None:
    """Mean 0 and variance 1 within four standard deviations (`effective`: independent numbers among them)."""
    n = z.size if effective is None else effective
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs(z.std() - 1) < 0.02 + 4 / np.sqrt(2 * n)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 10])
def test_ising_needs_two_settings_whatever_its_size(n):
    net = qp.TransverseFieldIsing(n, [(i, j) for i in range(n) for j in range(i)])
    out = qp.equilibrate(net, net.init_params(0), solver=qp.Measured(EXACT, shots=10), key=0)
    assert set(out.state.bases) == {"Z" * n, "X" * n}
    assert out.stats["settings"] == 2
    assert out.stats["preparations"] == 20


@pytest.mark.parametrize(
    ("net", "most"), [(qp.quantum.heisenberg(5, [(i, i + 1) for i in range(4)]), 3), (qp.quantum.phase_sensor(4), 18)]
)
def test_grouped_settings_read_every_string_once_opened(net, most):
    operators = tuple(op for _, ops in net.terms for op in ops)
    strings = [s for s in read_table(operators).strings if s != (0, 0)]
    grouped, single = commuting_bases(operators, net.n_sites), single_bases(operators, net.n_sites)
    assert all(any(covers(basis, string) for basis in grouped) for string in strings)
    assert len(grouped) <= most < len(single) == len(strings)
    assert all(any(covers(basis, string) for basis in single) for string in strings)
    assert max(len(basis.replace("I", "")) for basis in single) == max(op.weight for op in operators)


def test_single_settings_cost_more_and_agree():
    solver = qp.Measured(EXACT, shots=2000, bases="single")
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.centered(0.1), key=0)
    assert out.free.stats["settings"] == 8
    assert out.free.state.bases[0].count("I") >= 1
    exact = qp.ep_gradient(NET, PARAMS, COST, scheme=qp.centered(0.1))
    assert np.all(np.abs(flat(out.grad) - flat(exact.grad)) < 4.5 * flat(out.stderr))


@pytest.mark.parametrize(
    ("bases", "error", "message"),
    [
        (["ZZZ"], ValueError, r"must read all forces and costs, but none of \['ZZZ'\] reads X0. 'commuting' would"),
        (["ZZZ", "XXXX"], ValueError, "one letter X, Y, Z or I for each of the 3 sites, but has 'XXXX'"),
        (["ZZZ", "AXX"], ValueError, r"bases\[1\]` must have the letters X, Y, Z and I, but is 'AXX'"),
        (["ZZZ", "ZZZ"], ValueError, "every setting once"),
        ("greedy", TypeError, "must be 'commuting', 'single' or a list"),
        ([3], TypeError, "must be letters such as 'ZZX' or a list of Pauli sums"),
        ([[qp.X(0), qp.Z(0)]], ValueError, r"bases\[0\]`: X0 and Z0 do not commute \(site 0\)"),
        ([[qp.X(0) * qp.X(1), qp.Z(0) * qp.Z(1)]], ValueError, "commute, but not site by site .* entangling gates"),
        (["R"], ValueError, "one letter X, Y, Z or I"),
    ],
)
def test_bad_settings_are_refused(bases, error, message):
    with pytest.raises(error, match=message):
        qp.equilibrate(NET, PARAMS, solver=qp.Measured(EXACT, bases=bases), key=0)


def test_groups_of_operators_are_settings_and_strings_not_read_are_refused():
    solver = qp.Measured(EXACT, shots=50, bases=[[qp.Z(0) * qp.Z(1), qp.Z(2)], [qp.X(i) for i in range(3)], "YIZ"])
    state = qp.equilibrate(NET, PARAMS, solver=solver, key=0).state
    assert state.bases == ("ZZZ", "XXX", "YIZ")
    assert state.readings("YIZ").shape == (50, 3)
    assert np.array_equal(np.unique(state.readings("YIZ")[:, 1]), [0])
    assert state.expect(qp.Y(0) * qp.Z(2)).stderr > 0
    with pytest.raises(ValueError, match=r"X0 Z1 is read in none of .*bases=\['ZZZ', 'XXX', 'YIZ', 'XZZ'\]"):
        state.expect(qp.X(0) * qp.Z(1))
    with pytest.raises(ValueError, match="must be one of the settings"):
        state.readings("ZZX")
    with pytest.raises(TypeError, match="Shots of spins show Pauli sums, not a Quadratic"):
        state.expect(qp.R(0))


# --- samples ----------------------------------------------------------------------------------------------------------


def random_state(kind: str) -> Any:
    rng = np.random.default_rng(4)
    vectors, _ = np.linalg.qr(rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8)))
    if kind == "pure":
        return qp.PureState(3, vectors[:, 0])
    p = rng.dirichlet(np.ones(8))
    return ThermalState(3, 1.0, np.arange(8.0), vectors, p, (vectors * p) @ vectors.conj().T)


@pytest.mark.parametrize("kind", ["pure", "thermal"])
@pytest.mark.parametrize("basis", ["ZXY", "YYX", "XZZ", "YXI"])
def test_probabilities_are_those_of_projectors(kind, basis):
    state = random_state(kind)
    density = np.outer(state.amplitudes, state.amplitudes.conj()) if kind == "pure" else state.density
    expected = []
    for signs in product((1, -1), repeat=3):
        projector = np.eye(1)
        for letter, sign in zip(basis, signs, strict=True):
            projector = np.kron(projector, (np.eye(2) + sign * PAULI["Z" if letter == "I" else letter]) / 2)
        expected.append(np.trace(projector @ density).real)
    assert np.allclose(probabilities(state, basis), expected, atol=1e-14)
    assert np.ptp(expected) > 0.05


def test_draws_follow_their_probabilities():
    p = np.array([[0.5, 0.0, 0.3, 0.2], [0.0, 0.0, 0.0, 1.0]])
    outcomes = draw(p, 200_000, np.random.default_rng(0))
    assert outcomes.shape == (2, 200_000)
    assert outcomes.dtype == np.uint8
    counts = np.bincount(outcomes[0], minlength=4)
    assert counts[1] == 0
    assert np.all(np.abs(counts / 2e5 - p[0]) <= 4 * np.sqrt(p[0] * (1 - p[0]) / 2e5))
    assert np.all(outcomes[1] == 3)


@pytest.mark.parametrize("shots", [7, 100, 250, 1003])
def test_jackknife_over_blocks(shots):
    values = np.random.default_rng(shots).normal(1.0, 2.0, (60, shots))
    sums = block_sums(values)
    replicas = leave_one_out(sums, shots)
    assert block_sizes(shots).sum() == shots
    first = block_sizes(shots)[0]
    assert np.allclose(replicas[0], values[:, first:].mean(axis=1))
    stderr = qp.Estimate.jackknife(values.mean(axis=1), replicas).stderr
    plain = values.std(axis=1, ddof=1) / np.sqrt(shots)
    tolerance = 4 / np.sqrt(2 * 60 * (len(replicas) - 1)) + 0.02
    assert abs(np.sqrt(np.mean(stderr**2) / np.mean(plain**2)) - 1) < tolerance


def test_the_same_key_gives_the_same_bits_and_another_key_others():
    solver, scheme = qp.Measured(EXACT, shots=100), qp.centered(0.1)
    a, again, other = (qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=scheme, key=k) for k in (5, 5, 6))
    assert np.array_equal(a.free.state.outcomes, again.free.state.outcomes)
    assert np.array_equal(flat(a.grad), flat(again.grad))
    assert not np.array_equal(flat(a.grad), flat(other.grad))
    phases = [a.free, *(phase for _, phase in a.nudged)]
    assert not any(np.array_equal(phases[0].state.outcomes, p.state.outcomes) for p in phases[1:])
    assert not np.array_equal(*a.free.state.outcomes)


# --- standard errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [qp.centered(0.1), qp.one_sided(0.1)], ids=str)
def test_gradients_have_true_standard_errors(scheme):
    exact = flat(qp.ep_gradient(NET, PARAMS, COST, scheme=scheme).grad)
    assert np.abs(exact).min() > 1e-2
    solver = qp.Measured(EXACT, shots=400)
    z = []
    for key in range(80):
        out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=scheme, key=key)
        z.append((flat(out.grad) - exact) / flat(out.stderr))
    assert_standard_normal(np.array(z), effective=80 * 3)  # the components share their shots


@pytest.mark.parametrize("kind", ["centered", "one_sided"])
def test_variance_formulas(kind):
    """[Var_b + Var_-b]/(4 M b^2) and [Var_b + Var_0]/(M b^2), with Var = 1 - <A>^2 of the exact states, to 5 %."""
    beta, shots, count = 0.1, 300, 3000
    solver, many = qp.Measured(EXACT, shots=shots), copies(count)
    ends, weights = (
        ((beta, -beta), (0.5 / beta, -0.5 / beta)) if kind == "centered" else ((beta, 0.0), (1 / beta, -1 / beta))
    )
    exact = [flat(forces(NET, EXACT, b).mean) for b in ends]
    predicted = sum(w**2 * (1 - e**2) for w, e in zip(weights, exact, strict=True)) / shots
    measured = [forces(many, solver, b) for b in ends]
    out = combine(weights, measured)
    values = np.concatenate([out.mean[name] for name in sorted(out.mean)], axis=1)
    errors = np.concatenate([out.stderr[name] for name in sorted(out.stderr)], axis=1)
    assert np.allclose(values.var(axis=0) / predicted, 1, atol=4 * np.sqrt(2 / count))
    assert abs(np.mean(values.var(axis=0) / predicted) - 1) < 0.05
    assert np.allclose(np.mean(errors**2, axis=0) / predicted, 1, atol=0.02)
    z = (values - np.dot(weights, exact)) / errors
    assert_standard_normal(z, effective=3 * count)


def test_sums_read_in_the_same_shots_have_joint_errors():
    """Z0 + Z1 of an antiferromagnet hardly fluctuates: errors that are added in quadrature would be far too large."""
    net = qp.TransverseFieldIsing(2, [(0, 1)])
    params = {"J": np.array([-2.0]), "h": np.array([0.3, 0.1]), "g": np.array([0.5, 0.5])}
    state = qp.equilibrate(net, params, solver=qp.Measured(EXACT, shots=20_000), key=0).state
    exact = state.prepared
    total = qp.Z(0) + qp.Z(1)
    variance = float(exact.expect(total * total)) - float(exact.expect(total)) ** 2
    apart = np.hypot(*(float(state.expect(qp.Z(i)).stderr) for i in (0, 1)))
    assert state.expect(total).stderr < 0.6 * apart
    together = state.expect_all((qp.Z(0), qp.Z(1))).weighted_sum(np.ones(2)).stderr
    assert np.allclose([state.expect(total).stderr, together], np.sqrt(variance / 20_000), rtol=4 / np.sqrt(2 * 99))


def test_errors_of_the_two_formulas_fall_with_their_powers_of_the_shots():
    """At the best beta the error falls like M^(-1/3) (centered) and M^(-1/4) (one-sided)."""
    exact = flat(qp.linear_response(NET, PARAMS, COST).grad)
    step = 1e-2
    f = {b: flat(forces(NET, EXACT, b * step).mean) for b in (-2, -1, 0, 1, 2)}
    cubic = (f[2] - 2 * f[1] + 2 * f[-1] - f[-2]) / (12 * step**3)
    square = (f[1] - 2 * f[0] + f[-1]) / (2 * step**2)
    variance = np.mean(1 - f[0] ** 2)
    shots = np.array([1000, 8000, 64000])
    for formula, order, a, c in ((qp.centered, 2, variance / 2, cubic), (qp.one_sided, 1, 2 * variance, square)):
        rms = []
        for m in shots:
            beta = (a / m / (order * np.mean(c**2))) ** (1 / (2 * order + 2))
            count, weights = 16_000 // int(np.sqrt(m)), (0.5, -0.5) if order == 2 else (1.0, -1.0)
            ends = (beta, -beta) if order == 2 else (beta, 0.0)
            solver, many = qp.Measured(EXACT, shots=int(m)), copies(count)
            out = combine(np.array(weights) / beta, [forces(many, solver, b) for b in ends]).mean
            values = np.concatenate([out[name] for name in sorted(out)], axis=1)
            rms.append(np.sqrt(np.mean((values - exact) ** 2)))
            if m == shots[-1]:
                assert np.isclose(rms[-1], np.sqrt((1 + 1 / order) * a / m) / beta, rtol=0.06)
        slope = np.polyfit(np.log(shots), np.log(rms), 1)[0]
        assert abs(slope + (1 / 3 if order == 2 else 1 / 4)) < 0.03, formula


# --- read-out errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rates", [0.08, (0.02, 0.12), np.array([[0.1, 0.0], [0.03, 0.2], [0.0, 0.05]])], ids=["p", "pair", "sites"]
)
def test_mitigated_readings_are_unbiased_and_their_errors_true(rates):
    observables = (qp.Z(0) * qp.Z(1), qp.Z(2), qp.X(0) * qp.X(1) * qp.X(2), qp.Z(0) * qp.Z(1) * qp.Z(2))
    many, exact = copies(2000), qp.equilibrate(NET, PARAMS).state.expect_all(observables).mean
    found = {}
    for mitigate in (True, False):
        solver = qp.Measured(EXACT, shots=200, readout_error=rates, mitigate=mitigate)
        found[mitigate] = solver.solve(many, PARAMS, key=1).state.expect_all(observables)
    out = found[True]
    spread = out.mean.std(axis=0)
    assert np.all(np.abs(out.mean.mean(axis=0) - exact) < 4 * spread / np.sqrt(2000))
    assert np.allclose(np.sqrt(np.mean(out.stderr**2, axis=0)) / spread, 1, atol=4 / np.sqrt(2 * 2000))
    raw = found[False]
    assert np.max(np.abs(raw.mean.mean(axis=0) - exact) / (raw.mean.std(axis=0) / np.sqrt(2000))) > 20
    assert np.all(spread > raw.mean.std(axis=0))


def test_mitigation_of_symmetric_flips_divides_by_the_contrast():
    """A string of w sites has the mean (1 - 2p)^w <O> as read, and the variance (1 - 2p)^(-2w) - <O>^2 a shot."""
    p, many = 0.1, copies(3000)
    exact = float(qp.equilibrate(NET, PARAMS).state.expect(qp.Z(0) * qp.Z(1)))
    raw, out = (
        qp.Measured(EXACT, shots=200, readout_error=p, mitigate=m)
        .solve(many, PARAMS, key=0)
        .state.expect(qp.Z(0) * qp.Z(1))
        for m in (False, True)
    )
    assert np.isclose(raw.mean.mean(), 0.64 * exact, atol=4 * raw.mean.std() / np.sqrt(3000))
    assert np.isclose(out.mean.var(), (0.8**-4 - exact**2) / 200, rtol=4 * np.sqrt(2 / 3000))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (0.5, r"p01 \+ p10 < 1 to be mitigated, but is 0.5.*mitigate=False"),
        (-0.1, "probabilities between 0 and 1"),
        (np.nan, "must be finite"),
        ([0.1, 0.1, 0.1], r"a pair \(p01, p10\) or an array of shape \(n_sites, 2\), but has shape \(3,\)"),
        (np.full((2, 2), 0.1), "one pair .* for each of the 3 sites, but has 2"),
    ],
)
def test_bad_readout_errors_are_refused(error, message):
    with pytest.raises(ValueError, match=message):
        qp.equilibrate(NET, PARAMS, solver=qp.Measured(EXACT, readout_error=error), key=0)


# --- outputs ----------------------------------------------------------------------------------------------------------


def test_measured_outputs_add_noise_that_repetitions_see():
    """Far from the target the forces' noise at a given signal is all; with few shots the signal's own noise counts."""
    cost, target = qp.ExpectationCost([qp.Z(1), qp.Z(2)]), np.array([0.35, 0.45])
    problem, scheme = (NET, PARAMS, cost, target), qp.centered(0.3)
    exact = flat(qp.ep_gradient(*problem, scheme=qp.centered(1e-3)).grad)
    solver = qp.Measured(EXACT, shots=60)
    outs = [qp.ep_gradient(*problem, solver=solver, scheme=scheme, key=k, throw=False) for k in range(150)]
    spread, single = (
        np.std([flat(out.grad) for out in outs], axis=0),
        np.mean([flat(out.stderr) for out in outs], axis=0),
    )
    assert np.abs(exact).max() > 0.2
    mean = np.mean([flat(out.grad) for out in outs], axis=0)
    assert np.all(np.abs(mean - exact) < 4.5 * spread / np.sqrt(150) + 0.03 * np.abs(exact).max())  # no bias
    repeated = qp.repeated_gradient(*problem, solver=solver, scheme=scheme, key=1, repetitions=100, throw=False)
    assert np.allclose(flat(repeated.stderr) * 10 / spread, 1, atol=0.3)
    assert np.sqrt(np.mean(spread**2) / np.mean(single**2)) > 1.05


def test_exact_outputs_leave_the_noise_of_the_forces():
    cost, target = qp.ExpectationCost([qp.Z(1), qp.Z(2)]), np.array([-0.2, 0.9])
    solver, scheme = qp.Measured(EXACT, shots=50, outputs="exact"), qp.centered(0.2)
    exact = qp.ep_gradient(NET, PARAMS, cost, target, scheme=scheme, throw=False)
    outs = [
        qp.ep_gradient(NET, PARAMS, cost, target, solver=solver, scheme=scheme, key=k, throw=False) for k in range(60)
    ]
    assert all(np.isclose(out.nudge_ratio, exact.nudge_ratio) for out in outs)  # one and the same signal
    assert outs[0].loss.stderr > 0  # the loss itself is read off the shots
    assert_standard_normal(
        np.array([(flat(out.grad) - flat(exact.grad)) / flat(out.stderr) for out in outs]), effective=60 * 3
    )


def test_repetitions_need_noise_and_number():
    with pytest.raises(ValueError, match="must draw random numbers to be repeated"):
        qp.repeated_gradient(NET, PARAMS, COST, solver=EXACT)
    with pytest.raises(ValueError, match="`repetitions` must be at least 2"):
        qp.repeated_gradient(NET, PARAMS, COST, solver=qp.Measured(EXACT), repetitions=1)


# --- other states -----------------------------------------------------------------------------------------------------


def test_gibbs_states_are_read_as_well():
    solver, scheme = qp.GibbsState(0.7), qp.centered(0.2)
    exact = flat(qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=scheme).grad)
    outs = [
        qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(solver, shots=300), scheme=scheme, key=k)
        for k in range(60)
    ]
    assert_standard_normal(np.array([(flat(o.grad) - exact) / flat(o.stderr) for o in outs]), effective=180)
    with pytest.raises(ValueError, match=r"Argument `scheme` must be given: .* knows no scale"):
        qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(solver), key=0)


def test_complex_states_and_y_are_read():
    net = qp.quantum.phase_sensor(3)
    params = net.init_params(3)
    system, cost = net.with_inputs([1.0, 2.0, 1.0]), qp.ObservableCost(qp.Z(3) * qp.Y(4))
    exact = flat(qp.ep_gradient(system, params, cost, scheme=qp.centered(0.2), throw=False).grad)
    solver = qp.Measured(EXACT, shots=200)
    outs = [
        qp.ep_gradient(system, params, cost, solver=solver, scheme=qp.centered(0.2), key=k, throw=False)
        for k in range(30)
    ]
    assert np.linalg.norm(exact) > 0.1
    assert_standard_normal(np.array([(flat(o.grad) - exact) / flat(o.stderr) for o in outs]), effective=300)


SPRINGS = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], hbar=0.7, trainable=("k", "l", "kappa", "f", "m"))
MASSES = {
    "k": np.array([1.0, 1.5]),
    "l": np.array([0.3, -0.2]),
    "kappa": np.array([0.8, 0.5, 1.2]),
    "f": np.array([0.4, -0.1, 0.2]),
    "m": np.array([1.0, 0.7, 1.3]),
}


def test_oscillators_are_read_in_two_settings():
    cost, scheme = qp.ObservableCost((qp.R(2) - 0.5) ** 2 + 0.5 * qp.P(0) ** 2), qp.centered(0.1)
    solver = qp.Measured(qp.GaussianGroundState(), shots=500)
    exact = flat(qp.ep_gradient(SPRINGS, MASSES, cost, scheme=scheme).grad)
    outs = [qp.ep_gradient(SPRINGS, MASSES, cost, solver=solver, scheme=scheme, key=k) for k in range(60)]
    assert outs[0].free.stats["settings"] == 2
    assert np.abs(exact).min() > 5e-4
    assert_standard_normal(np.array([(flat(o.grad) - exact) / flat(o.stderr) for o in outs]), effective=60 * 4)
    state = outs[0].free.state
    energy = SPRINGS.energy(MASSES, state)
    assert abs(float(energy) - float(outs[0].free.energy)) < 4 * energy.stderr
    assert energy.stderr > 0


def test_positions_alone_are_one_setting():
    net = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], hbar=0.7, trainable=("k", "f"), fixed={"kappa": 0.6}, input_sites=[0])
    params = {"k": MASSES["k"], "f": MASSES["f"]}
    solver = qp.Measured(qp.GaussianGroundState(), shots=200)
    state = qp.equilibrate(net, params, solver=solver, inputs=np.zeros((4, 1)), key=0).state
    assert repr(state) == "MeasuredOscillators(3 nodes, batch of 4, 200 shots of positions)"
    assert not np.any(state.positions[0] == state.positions[1])  # samples of a batch have shots of their own
    forces = net.with_inputs(np.zeros((4, 1))).param_grad(params, state)
    assert forces.mean["k"].shape == forces.stderr["k"].shape == (4, 2)
    with pytest.raises(ValueError, match=r"Momenta are read in none of the settings .*bases=\['R', 'P'\]"):
        state.expect(qp.P(0) ** 2)
    both = qp.Measured(qp.GaussianGroundState(), shots=200, bases=["R", "P"])
    assert qp.equilibrate(net, params, solver=both, key=0).state.expect(qp.P(0) ** 2).stderr > 0
    with pytest.raises(ValueError, match=r"must be 'commuting' or \['R'\] for these oscillators"):
        qp.equilibrate(net, params, solver=qp.Measured(qp.GaussianGroundState(), bases=["P"]), key=0)
    with pytest.raises(ValueError, match="it flips bits, and oscillators have none"):
        qp.equilibrate(net, params, solver=qp.Measured(qp.GaussianGroundState(), readout_error=0.1), key=0)


def test_states_without_amplitudes_are_refused():
    chain = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": np.zeros(4), "g": np.ones(4)}
    with pytest.raises(TypeError, match=r"not a OpenChainState\. For spins use ExactDiagonalization"):
        qp.equilibrate(chain, params, solver=qp.Measured(qp.FreeFermions()), key=0)
    terms = qp.OperatorSystem({"a": [np.diag([1.0, 0.5])]})
    with pytest.raises(TypeError, match="no sites to read"):
        qp.equilibrate(terms, {"a": [1.0]}, solver=qp.Measured(EXACT), key=0)


# --- the solver -------------------------------------------------------------------------------------------------------


def test_batches_are_one_call_and_their_samples_independent():
    inputs, targets = np.array([[0.0], [0.4], [-0.3]]), np.zeros((3, 1))
    cost, solver = qp.ExpectationCost([qp.Z(1)]), qp.Measured(EXACT, shots=200)
    out = qp.ep_gradient(NET, PARAMS, cost, targets, inputs=inputs, solver=solver, scheme=qp.centered(0.1), key=0)
    assert out.free.state.outcomes.shape == (2, 3, 200)
    assert preparations(out).total == 3 * 2 * 200 * 3
    assert preparations(out).used == 2 * 2 * 200 * 3
    exact = qp.ep_gradient(NET, PARAMS, cost, targets, inputs=inputs, scheme=qp.centered(0.1))
    assert np.all(np.abs(flat(out.grad) - flat(exact.grad)) < 5 * flat(out.stderr))
    gibbs = qp.ep_gradient(
        NET,
        PARAMS,
        cost,
        targets,
        inputs=inputs,
        solver=qp.Measured(qp.GibbsState(1.0), 200),
        scheme=qp.centered(0.1),
        key=0,
    )  # sample by sample
    assert preparations(gibbs).total == 3 * 2 * 200 * 3
    with pytest.raises(ValueError, match="must come from ep_gradient"):
        preparations(exact)


def test_one_sided_counts_its_free_phase():
    out = qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(EXACT, 50), scheme=qp.one_sided(0.1), key=0)
    count = preparations(out)
    assert [phase.used for phase in count.phases] == [True, False, True]
    assert (count.total, count.used) == (300, 200)
    assert "Preparations  300 in all, 200 of them" in repr(count)


def test_default_scheme_follows_the_shots():
    free = EXACT.solve(NET, PARAMS)
    few, many, most = (
        qp.Measured(EXACT, m).default_scheme(free, COST.term(free.state)) for m in (100, 10**6, 64 * 10**6)
    )
    assert np.isclose(few.max_strength, 0.09 * free.gap)  # as far as no warning is due
    assert np.isclose(many.max_strength / most.max_strength, 2.0)
    assert (
        qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(EXACT, 100), key=0).scheme.max_strength > 0.08 * free.gap
    )


def test_training_with_shots_repeats_to_the_bit():
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(6, 1)), rng.normal(size=(6, 1)) / 3)
    options = {"solver": qp.Measured(EXACT, 100), "scheme": qp.centered(0.2), "epochs": 2, "batch_size": 3}
    first, second, other = (
        qp.fit(NET, PARAMS, qp.ExpectationCost([qp.Z(1)]), data, seed=seed, progress=False, **options)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.params["J"], second.params["J"])
    assert not np.array_equal(first.params["J"], other.params["J"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shots": 1}, ValueError, "`shots` must be at least 2"),
        ({"shots": 10.5}, TypeError, "`shots` must be an integer"),
        ({"outputs": "noisy"}, ValueError, "must be 'measured' or 'exact', but is 'noisy'"),
        ({"solver": qp.Measured(EXACT)}, TypeError, "must be a solver that prepares states"),
        ({"solver": "exact"}, TypeError, "must be a solver that prepares states"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        qp.Measured(**({"solver": EXACT} | options))


def test_capabilities_and_memory_are_checked_before_work():
    solver = qp.Measured(EXACT)
    with pytest.raises(ValueError, match="Measured has no linear response"):
        qp.linear_response(NET, PARAMS, COST, solver=solver)
    with pytest.raises(ValueError, match="Measured cannot follow complex nudges"):
        qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.holomorphic(0.1))
    with pytest.raises(MemoryError, match="Use fewer shots"):
        qp.equilibrate(NET, PARAMS, solver=qp.Measured(EXACT, shots=10**13), key=0)


def test_results_print_and_come_back(tmp_path):
    solver = qp.Measured(EXACT, 40, bases=["ZZZ", "XXX"], readout_error=0.01, outputs="exact")
    assert repr(solver) == (
        "Measured(ExactDiagonalization(tolerance=1e-10), shots=40, bases=('ZZZ', 'XXX'), readout_error mitigated, "
        "outputs='exact')"
    )
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.centered(0.1), key=0)
    again = qp.load(qp.save(tmp_path / "out", out))
    assert isinstance(again.free.state, MeasuredState)
    assert repr(again.solver) == repr(solver)
    assert np.array_equal(again.free.state.outcomes, out.free.state.outcomes)
    assert again.free.state.expect(qp.Z(0)).mean == out.free.state.expect(qp.Z(0)).mean
    moving = qp.equilibrate(SPRINGS, MASSES, solver=qp.Measured(qp.GaussianGroundState(), 20), key=0).state
    back = qp.load(qp.save(tmp_path / "oscillators", moving))
    assert isinstance(back, MeasuredOscillators)
    assert back.expect(qp.R(0)).mean == moving.expect(qp.R(0)).mean
