"""Adiabatic preparation: the protocol against QuTiP, and what its ramps do to the gradient."""

import functools

import numpy as np
import pytest
import qutip

import qeqprop as qp
from qeqprop.quantum import evolve, heisenberg
from qeqprop.quantum.evolution import system_table
from qeqprop.quantum.product_preparation import field_vectors, product_ground_state

RAMPS = ("linear", "smooth", "quintic")


def ring(n: int, seed: int = 3):
    """A ring with random couplings and fields on every site, gap about 1.6, and a cost that feels all of them."""
    rng = np.random.default_rng(seed)
    net = qp.TransverseFieldIsing(n, [(i, (i + 1) % n) for i in range(n)])
    params = {"J": rng.uniform(0.4, 0.8, n), "h": rng.uniform(0.1, 0.4, n), "g": rng.uniform(0.8, 1.2, n)}
    return net, params, qp.ObservableCost(qp.Z(0) * qp.Z(n // 2) + qp.X(1))


def flat(out) -> np.ndarray:
    return np.concatenate(list(out.grad.values()))


def dense(operators, strengths, n: int) -> np.ndarray:
    return sum(c * op.to_dense(n) for c, op in zip(strengths, operators, strict=True))


@functools.cache
def exact():
    """The exact gradient of the five-spin ring, none of its parts small."""
    net, params, cost = ring(5)
    out = qp.linear_response(net, params, cost)
    assert all(np.linalg.norm(part) > 0.1 for part in out.grad.values())
    return out


def bias(solver: qp.AdiabaticPreparation, beta: float = 1e-3):
    """Relative error of the gradient, and what was computed."""
    net, params, cost = ring(5)
    out = qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.centered(beta), throw=False)
    return np.linalg.norm(flat(out) - flat(exact())) / np.linalg.norm(flat(exact())), out


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_product_state_is_the_ground_state_of_its_fields(n):
    rng = np.random.default_rng(n)
    terms = [axis(i) for i in range(n) for axis in (qp.X, qp.Y, qp.Z)]
    strengths = rng.normal(size=3 * n)
    table = system_table(qp.SpinNetwork(n, {"b": terms}))
    fields = field_vectors(table, table.coefficients.T @ np.append(strengths, 1.0), n)
    np.testing.assert_allclose(fields.ravel(), strengths, atol=1e-15)
    psi = product_ground_state(fields, 1.0)
    h = dense(terms, strengths, n)
    assert np.vdot(psi, h @ psi).real == pytest.approx(np.linalg.eigvalsh(h)[0], abs=1e-12)


@pytest.mark.parametrize("start", [None, -2.0 * sum(qp.X(i) + 0.3 * qp.Y(i) for i in range(4))])
def test_the_protocol_equals_qutip(start):
    """Free phase, waiting time and nudged phase, with a Y term, sesolve against ours."""
    rng = np.random.default_rng(5)
    n, time, wait = 4, 3.0, 2.0
    fields = [axis(i) for i in range(n) for axis in (qp.X, qp.Y, qp.Z)]
    pairs = [qp.Z(i) * qp.Z(i + 1) + 0.5 * qp.X(i) * qp.Y(i + 1) for i in range(n - 1)]
    net = qp.SpinNetwork(n, {"fields": fields, "pairs": pairs})
    params = net.init_params(rng)
    solver = qp.AdiabaticPreparation(time, "smooth", nudge_time=wait, nudge_ramp="linear", start=start, tolerance=2)
    cost = qp.ObservableCost(qp.Z(0) * qp.Y(3))
    term, beta = cost.term(qp.PureState(n, np.eye(16)[0]), None), 0.4
    free = solver.solve(net, params)
    nudged = solver.solve(net.nudged(term, beta), params, init=free)

    product = dense(fields, params["fields"], n) if start is None else start.to_dense(n)
    target = dense(fields + pairs, np.concatenate([params["fields"], params["pairs"]]), n)
    c = dense(cost.observables, [1.0], n)
    options = {"method": "vern9", "atol": 1e-12, "rtol": 1e-12, "nsteps": 10**6, "progress_bar": ""}

    def run(h, psi, duration):
        return qutip.sesolve(h, psi, [0, duration], options=options).states[-1]

    psi = qutip.Qobj(np.linalg.eigh(product)[1][:, 0])
    ramp = [qutip.Qobj(target - product), lambda t: (1 - np.cos(np.pi * t / time)) / 2]
    first = qutip.QobjEvo([qutip.Qobj(product), ramp])
    prepared = run(first, psi, time)
    waited = run(qutip.Qobj(target), prepared, wait)
    bent = run(qutip.QobjEvo([qutip.Qobj(target), [beta * qutip.Qobj(c), lambda t: t / wait]]), prepared, wait)
    for equilibrium, ket, h in ((free, waited, target), (nudged, bent, target + beta * c)):
        reference = ket.full().ravel()
        assert abs(abs(np.vdot(reference, equilibrium.state.amplitudes)) - 1) < 1e-10
        energy = np.vdot(reference, h @ reference).real
        assert float(equilibrium.energy) == pytest.approx(energy, abs=1e-9)
        assert float(equilibrium.residual) == pytest.approx(
            np.linalg.norm(h @ reference - energy * reference), abs=1e-8
        )
    levels, vectors = np.linalg.eigh(target)
    assert float(free.gap) == pytest.approx(levels[1] - levels[0], abs=1e-8)
    infidelity = 1 - abs(np.vdot(vectors[:, 0], waited.full().ravel())) ** 2
    assert infidelity > 1e-3
    assert free.stats["infidelity"] == pytest.approx(infidelity, abs=1e-9)
    assert free.stats["excess_energy"] == pytest.approx(float(free.energy) - levels[0], abs=1e-9)


def test_infidelity_falls_with_the_power_of_the_ramp():
    """Slopes 2, 4, 6 of the infidelity in the time: one power of amplitude for each smooth derivative."""
    net, params, _ = ring(3)
    times = np.geomspace(30, 240, 10)
    for ramp, slope in zip(RAMPS, (-2, -4, -6), strict=True):
        found = []
        for time in times:
            solver = qp.AdiabaticPreparation(time, ramp, nudge_time=0.01, accuracy=1e-12)
            found.append(qp.equilibrate(net, params, solver=solver).stats["infidelity"])
        assert np.polyfit(np.log(times), np.log(found), 1)[0] == pytest.approx(slope, abs=0.4)


def nudge_bias(ramp: str, time: float, beta: float = 1e-3) -> float:
    """Relative error of the gradient that begins with the exact ground state: the nudge's own share."""
    net, params, cost = ring(5)
    ground = qp.equilibrate(net, params)
    solver = qp.AdiabaticPreparation(1.0, nudge_time=time, nudge_ramp=ramp)
    term = cost.term(ground.state, None)
    phases = [solver.solve(net.nudged(term, b), params, init=ground).state for b in (beta, -beta)]
    plus, minus = (np.concatenate(list(net.param_grad(params, state).mean.values())) for state in phases)
    return np.linalg.norm((plus - minus) / (2 * beta) - flat(exact())) / np.linalg.norm(flat(exact()))


def test_a_smooth_nudge_cures_the_bias_of_a_sudden_one():
    times = (10.0, 20.0, 40.0, 80.0, 160.0)
    found = {ramp: [nudge_bias(ramp, time) for time in times] for ramp in ("sudden", *RAMPS)}
    assert min(found["sudden"]) > 0.2
    for ramp, slope in zip(RAMPS, (-1, -2, -3), strict=True):
        assert np.polyfit(np.log(times), np.log(found[ramp]), 1)[0] == pytest.approx(slope, abs=0.4)
    assert found["smooth"][-1] < 2e-4


def test_the_whole_protocol_reaches_the_gradient():
    assert bias(qp.AdiabaticPreparation(160.0, "quintic"))[0] < 1e-3
    assert bias(qp.AdiabaticPreparation(400.0, "smooth"))[0] < 2e-3


@pytest.mark.parametrize(
    ("time", "ramp", "nudge_time", "nudge_ramp"),
    [
        (100.0, "smooth", 25.0, "smooth"),
        (100.0, "smooth", 10.0, "sudden"),
        (100.0, "smooth", 10.0, "linear"),
        (30.0, "linear", 60.0, "quintic"),
    ],
)
def test_the_violation_measures_the_bias(time, ramp, nudge_time, nudge_ramp):
    error, out = bias(qp.AdiabaticPreparation(time, ramp, nudge_time=nudge_time, nudge_ramp=nudge_ramp))
    for _, phase in out.nudged:
        assert error / 3 < phase.stats["nudge_violation"] < 3 * error
    assert out.status.failed == (phase.stats["nudge_violation"] > 0.1)


def test_the_response_to_a_sudden_nudge_is_that_of_perturbation_theory():
    """From the exact ground state: 2 Re sum_n O_0n C_n0 / (E_0 - E_n) (1 - exp(-i (E_n - E_0) t))."""
    net, params, cost = ring(4)
    ground = qp.equilibrate(net, params)
    h = dense(net.operators(), net.strengths(params), 4)
    levels, vectors = np.linalg.eigh(h)
    c = vectors.T @ cost.observables[0].to_dense(4) @ vectors
    o = vectors.T @ (-qp.X(2)).to_dense(4) @ vectors
    distance, time, beta = levels[1:] - levels[0], 2.3, 1e-4
    share = o[0, 1:] * c[1:, 0] / -distance
    solver = qp.AdiabaticPreparation(1.0, nudge_time=time, nudge_ramp="sudden")
    term = cost.term(ground.state, None)
    phases = [solver.solve(net.nudged(term, b), params, init=ground).state for b in (beta, -beta)]
    response = (phases[0].expect(-qp.X(2)).mean - phases[1].expect(-qp.X(2)).mean) / (2 * beta)
    expected = 2 * np.sum(share * (1 - np.cos(distance * time)))
    assert abs(expected - 2 * share.sum()) > 0.1 * abs(expected)
    assert response == pytest.approx(expected, rel=1e-5)


def test_random_measuring_times_cure_a_sudden_nudge_too():
    net, params, cost = ring(4)
    ground = qp.equilibrate(net, params).state
    term, beta = cost.term(ground, None), 1e-3
    response = qp.linear_response(net, params, cost).grad["g"][2]
    times = np.linspace(0, 200, 2001)
    runs = [evolve(net.nudged(term, b), params, ground, times).expect(-qp.X(2)).mean for b in (beta, -beta)]
    signal = (runs[0] - runs[1]) / (2 * beta)
    assert np.abs(signal / response - 1).max() > 0.5
    assert signal.mean() == pytest.approx(response, rel=1e-2)


def test_excitations_left_by_the_first_ramp_dephase_under_the_nudge():
    """Their share of the bias grows with the nudge's time, and is not amplified by 1/beta."""
    times = (30.0, 60.0, 120.0)
    found = [bias(qp.AdiabaticPreparation(25.0, "linear", nudge_time=t, nudge_ramp="quintic"))[0] for t in times]
    assert np.polyfit(np.log(times), np.log(found), 1)[0] == pytest.approx(1, abs=0.4)
    solver = qp.AdiabaticPreparation(60.0, nudge_time=15.0)
    errors = [bias(solver, beta)[0] for beta in (1e-2, 1e-3, 1e-4)]
    np.testing.assert_allclose(errors, errors[-1], rtol=0.2)


def test_the_defaults_give_a_good_gradient():
    net, params, cost = ring(5)
    out = qp.ep_gradient(net, params, cost, solver=qp.AdiabaticPreparation(100.0))
    assert out.status is qp.Status.OK
    assert out.nudge_ratio < 0.1
    assert np.linalg.norm(flat(out) - flat(exact())) < 0.02 * np.linalg.norm(flat(exact()))
    assert float(out.loss) == pytest.approx(float(exact().loss), abs=1e-3)
    row = repr(out.free)
    assert "infidelity" in row
    assert "norm_drift" in row


def test_expectation_costs_inputs_and_batches():
    rng = np.random.default_rng(0)
    net = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
    params = {"J": rng.uniform(0.4, 0.8, 2), "h": rng.uniform(0.1, 0.4, 3), "g": np.ones(3)}
    cost, inputs, targets = qp.ExpectationCost([qp.Z(1), qp.Z(2)]), [[0.5], [-0.8]], [[0.7, 0.1], [-0.4, 0.6]]
    solver = qp.AdiabaticPreparation(120.0, "quintic")
    out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, solver=solver)
    reference = qp.linear_response(net, params, cost, targets, inputs=inputs)
    assert np.linalg.norm(flat(reference)) > 0.1
    np.testing.assert_allclose(flat(out), flat(reference), atol=1e-2 * np.linalg.norm(flat(reference)))


def test_differences_of_the_prepared_loss_agree():
    """Finite differences of the loss of the prepared state, which know nothing of nudges."""
    net, params, cost = ring(3)
    solver = qp.AdiabaticPreparation(60.0, "quintic")
    out = qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.richardson(0.02))
    reference = qp.finite_difference(net, params, cost, solver=solver, components={"J": [0], "h": [1], "g": [0]})
    for name, index in (("J", 0), ("h", 1), ("g", 0)):
        assert out.grad[name][index] == pytest.approx(reference.grad[name][index], abs=2e-3)
        assert abs(reference.grad[name][index]) > 0.05


def test_a_nudged_system_without_a_free_state_prepares_it_first():
    net, params, cost = ring(3)
    solver = qp.AdiabaticPreparation(20.0)
    free = solver.solve(net, params)
    nudged = net.nudged(cost.term(free.state, None), 0.1)
    np.testing.assert_array_equal(
        solver.solve(nudged, params).state.amplitudes, solver.solve(nudged, params, init=free).state.amplitudes
    )


def test_operator_systems_need_a_start_and_then_agree_with_spins():
    net, params, cost = ring(3)
    spins = {name: [op.to_dense(3) for op in operators] for name, operators in net.terms}
    system = qp.OperatorSystem(spins)
    fields = qp.MatrixOperator(dense(net.operators()[3:9], np.concatenate([params["h"], params["g"]]), 3))
    matrix_cost = qp.ObservableCost(qp.MatrixOperator(cost.observables[0].to_dense(3)))
    scheme = qp.centered(0.01)
    ours = qp.ep_gradient(net, params, cost, solver=qp.AdiabaticPreparation(30.0), scheme=scheme)
    theirs = qp.ep_gradient(
        system, params, matrix_cost, solver=qp.AdiabaticPreparation(30.0, start=fields), scheme=scheme
    )
    np.testing.assert_allclose(flat(theirs), flat(ours), atol=1e-7)
    with pytest.raises(ValueError, match="MatrixOperator of dimension 8"):
        qp.equilibrate(system, params, solver=qp.AdiabaticPreparation(30.0))
    level = qp.MatrixOperator(np.diag([0.0, 0.0, 1, 1, 1, 1, 1, 1]))
    with pytest.raises(ValueError, match="unique ground state"):
        qp.equilibrate(system, params, solver=qp.AdiabaticPreparation(30.0, start=level))


def test_too_fast_is_unconverged():
    net, params, cost = ring(5)
    with pytest.raises(qp.EquilibriumError, match=r"(?s)unconverged.*`time`"):
        qp.equilibrate(net, params, solver=qp.AdiabaticPreparation(1.0))
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.ep_gradient(net, params, cost, solver=qp.AdiabaticPreparation(100.0, nudge_ramp="sudden"))


def test_a_degenerate_ground_state_is_refused():
    net, params, _ = ring(3)
    params |= {"h": np.zeros(3), "g": np.zeros(3)}
    start = -qp.X(0) - qp.X(1) - qp.X(2)
    with pytest.raises(qp.EquilibriumError, match=r"^degenerate: residual"):
        qp.equilibrate(net, params, solver=qp.AdiabaticPreparation(20.0, start=start))


def test_a_symmetry_that_blocks_the_way_is_seen():
    """A Heisenberg antiferromagnet never leaves the fully polarised state; staggered fields let it."""
    net = heisenberg(4, [(0, 1), (1, 2), (2, 3), (3, 0)])
    params = {name: np.ones(shape) for name, shape in net.param_shapes.items()}
    ground = qp.equilibrate(net, params)
    stuck = qp.equilibrate(net, params, solver=qp.AdiabaticPreparation(50.0), throw=False)
    assert stuck.status is qp.Status.UNCONVERGED
    assert stuck.stats["infidelity"] == pytest.approx(1.0)
    staggered = sum((-1) ** i * qp.Z(i) for i in range(4))
    free = qp.equilibrate(net, params, solver=qp.AdiabaticPreparation(50.0, start=staggered))
    assert free.stats["infidelity"] < 1e-3
    assert float(free.energy) == pytest.approx(float(ground.energy), abs=1e-2)


def test_results_are_saved(tmp_path):
    net, params, cost = ring(3)
    solver = qp.AdiabaticPreparation(40.0, start=-qp.X(0) - qp.X(1) + 0.5 * qp.Y(2))
    out = qp.ep_gradient(net, params, cost, solver=solver)
    again = qp.load(qp.save(tmp_path / "out", out))
    assert again.solver.start == solver.start
    assert again.free.stats["prepared"].amplitudes.shape == (8,)
    assert repr(again.solver) == "AdiabaticPreparation(time=40, ramp='smooth', nudge_time=10, nudge_ramp='smooth')"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": 0.0}, "`time` must be positive and finite, but is 0.0"),
        ({"time": np.inf}, "positive and finite"),
        ({"time": 1.0, "ramp": "sudden"}, "nudge_ramp='sudden'"),
        ({"time": 1.0, "ramp": "cosine"}, "one of 'linear', 'smooth', 'quintic', but is 'cosine'"),
        ({"time": 1.0, "nudge_ramp": "cosine"}, "`nudge_ramp` must be one of"),
        ({"time": 1.0, "nudge_time": -1.0}, "`nudge_time` must be positive"),
        ({"time": 1.0, "tolerance": 0.0}, "`tolerance` must be positive"),
        ({"time": 1.0, "accuracy": 2.0}, "`accuracy` must lie between"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        qp.AdiabaticPreparation(**arguments)


@pytest.mark.parametrize(
    ("start", "kind", "message"),
    [
        (-qp.X(0), ValueError, r"Sites \[1, 2\] have no field"),
        (-qp.X(0) * qp.X(1), ValueError, "sum of one-site terms"),
        (1j * qp.X(0), ValueError, "must be Hermitian"),
        (qp.X(4), ValueError, "acts on site 4"),
        (qp.MatrixOperator(np.eye(8)), TypeError, "must be a Pauli sum"),
    ],
)
def test_bad_starts_are_refused(start, kind, message):
    net, params, _ = ring(3)
    with pytest.raises(kind, match=message):
        qp.equilibrate(net, params, solver=qp.AdiabaticPreparation(5.0, start=start))


def test_what_it_cannot_do_is_refused():
    net, params, cost = ring(3)
    solver = qp.AdiabaticPreparation(5.0)
    with pytest.raises(ValueError, match="no linear response"):
        qp.linear_response(net, params, cost, solver=solver)
    with pytest.raises(ValueError, match="cannot follow complex nudges"):
        qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.holomorphic(0.1))
    chain = qp.HarmonicNetwork(2, [(0, 1)])
    with pytest.raises(TypeError, match="not HarmonicNetwork"):
        qp.equilibrate(chain, chain.init_params(0), solver=solver)
    with pytest.raises(TypeError, match="must be a Pauli sum or a MatrixOperator, but is list"):
        qp.AdiabaticPreparation(5.0, start=[qp.X(0)])
    with pytest.raises(ValueError, match=r"Sites \[0\] have no field"):
        qp.equilibrate(net, params | {"h": np.zeros(3), "g": np.array([0.0, 1.0, 1.0])}, solver=solver)
    free = solver.solve(net, params)
    other, its_params, _ = ring(4)
    with pytest.raises(ValueError, match=r"`init.state` must have amplitudes of shape \(16,\)"):
        solver.solve(other.nudged(cost.term(free.state, None), 0.1), its_params, init=free)
    with pytest.raises(MemoryError, match="3 spins"):
        qp.equilibrate(net, params, solver=qp.AdiabaticPreparation(5.0, memory=1000))
