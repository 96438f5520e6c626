"""Real-time evolution against QuTiP and dense exponentials, the order of the series, and the error it reports."""

import numpy as np
import pytest
import qutip
import scipy.linalg

import qeqprop as qp
from qeqprop.quantum import Evolution, evolve
from qeqprop.quantum.evolution import path_between
from qeqprop.quantum.ramps import RAMPS
from qeqprop.quantum.taylor import ORDER, Series, follow

SHAPES = {
    "linear": lambda x: x,
    "smooth": lambda x: (1 - np.cos(np.pi * x)) / 2,
    "quintic": lambda x: x**3 * (10 - 15 * x + 6 * x**2),
    "sudden": lambda x: 1.0,
}


def network(n: int) -> qp.SpinNetwork:
    """Fields along X, Y and Z on every site, couplings of all pairs, strings with one and with two Y's."""
    return qp.SpinNetwork(
        n,
        {
            "fields": [axis(i) for i in range(n) for axis in (qp.X, qp.Y, qp.Z)],
            "pairs": [qp.Z(i) * qp.Z(j) for i in range(n) for j in range(i)] + [qp.X(0) * qp.Y(n - 1)],
            "long": [qp.Y(i) * qp.Y(i + 1) * qp.X(i + 2) for i in range(n - 2)],
        },
    )


def problem(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    net = network(n)
    first, last = net.init_params(rng), net.init_params(rng)
    first["fields"][-1] = last["fields"][0] = 0.0  # flips that exist at one end only
    psi = rng.normal(size=2**n) + 1j * rng.normal(size=2**n)
    return net, first, last, psi / np.linalg.norm(psi)


def dense(net, params) -> np.ndarray:
    terms = dict(net.terms)
    pairs = [pair for name, ops in terms.items() for pair in zip(params[name], ops, strict=True)]
    return sum(c * op.to_dense(net.n_sites) for c, op in pairs)


@pytest.mark.parametrize("ramp", SHAPES)
@pytest.mark.parametrize("n", [3, 6])
def test_evolution_equals_qutip(n, ramp):
    net, first, last, psi = problem(n)
    times = np.array([0.5, 0.6, 1.9, 3.5])
    run = evolve(net, first, qp.PureState(n, psi), times, final=last, ramp=ramp)
    a, b = qutip.Qobj(dense(net, first)), qutip.Qobj(dense(net, last))
    options = {"method": "vern9", "atol": 1e-12, "rtol": 1e-12, "nsteps": 10**6, "progress_bar": ""}
    shape = SHAPES[ramp]
    h = qutip.QobjEvo([a, [b - a, lambda t: shape((t - 0.5) / 3.0)]])
    reference = qutip.sesolve(h, qutip.Qobj(psi), times, options=options).states
    for amplitudes, ket in zip(run.states.amplitudes, reference, strict=True):
        assert np.linalg.norm(amplitudes - ket.full().ravel()) < 1e-10
    moved = np.linalg.norm(run.final.amplitudes - psi)
    assert moved > 0.5
    assert abs(run.norm_drift) < 1e-11
    assert run.error <= 1.01e-10
    z = run.expect(qp.Z(0) * qp.Y(1)).mean
    assert z.shape == (4,)
    np.testing.assert_allclose(z[-1], run.final.expect(qp.Z(0) * qp.Y(1)).mean, atol=1e-14)


def test_operator_systems_evolve_as_spins_do():
    net, first, last, psi = problem(3)
    terms = {name: [op.to_dense(3) for op in operators] for name, operators in net.terms}
    system = qp.OperatorSystem(terms)
    spins = evolve(net, first, qp.PureState(3, psi), [0, 2.0], final=last, ramp="smooth")
    matrices = evolve(system, first, qp.PureState(0, psi), [0, 2.0], final=last, ramp="smooth")
    np.testing.assert_allclose(matrices.final.amplitudes, spins.final.amplitudes, atol=1e-11)


def test_inputs_and_nudges_belong_to_the_hamiltonian():
    net = qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0])
    params = {"J": np.array([0.7]), "h": np.array([0.1, 0.2]), "g": np.array([0.9, 0.4])}
    term = qp.ObservableCost(qp.X(0) * qp.Y(1)).term(qp.PureState(2, np.eye(4)[0]), None)
    run = evolve(net.nudged(term, 0.5), params, qp.PureState(2, np.eye(4)[1]), [0, 1.5], inputs=[0.3])
    x, y, z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])
    one = np.eye(2)
    h = -0.7 * np.kron(z, z) - 0.4 * np.kron(z, one) - 0.2 * np.kron(one, z)
    h = h - 0.9 * np.kron(x, one) - 0.4 * np.kron(one, x) + 0.5 * np.kron(x, y)
    np.testing.assert_allclose(run.final.amplitudes, scipy.linalg.expm(-1.5j * h)[:, 1], atol=1e-11)


@pytest.mark.parametrize("accuracy", [1e-3, 1e-6, 1e-9, 1e-12])
def test_the_reported_error_bounds_the_true_one(accuracy):
    net, first, last, psi = problem(5, seed=2)
    path = path_between(net, first, last)
    reference = follow(path, path.to_real(psi), "smooth", 4.0, 1e-13).final
    run = follow(path, path.to_real(psi), "smooth", 4.0, accuracy)
    assert 0.1 * accuracy < run.error <= 1.01 * accuracy
    assert np.linalg.norm(run.final - reference) <= run.error + 3e-12
    assert abs(run.norm_drift) <= run.error


@pytest.mark.parametrize("ramp", ["sudden", "smooth"])
def test_one_step_is_of_order_thirty(ramp):
    """The error of one step falls with the 31st power of the step."""
    net, first, last, psi = problem(5, seed=1)
    path = path_between(net, first, last)
    start = path.to_real(psi)
    series = Series(path, ramp, 4.0)
    series.expand(start, 0.0)
    steps = np.array([1.0, 1.25]) * series.step(1e-8)
    errors = []
    for h in steps:
        exact = follow(path, start, ramp, 4.0, 1e-13, [h]).vectors[0]
        errors.append(np.linalg.norm(series.state(h) - exact))
    assert 1e-11 < errors[0] < errors[1] < 1e-2
    assert abs(np.log(errors[1] / errors[0]) / np.log(1.25) - (ORDER + 1)) < 1.0


@pytest.mark.parametrize("name", RAMPS)
def test_ramps_are_the_derivatives_of_their_shapes(name):
    t, duration, step = 1.3, 4.0, 1e-4
    values = RAMPS[name](t, duration, 6)
    assert values[0] == pytest.approx(SHAPES[name](t / duration), abs=1e-15)
    for j in range(6):
        slope = (RAMPS[name](t + step, duration, 6)[j] - RAMPS[name](t - step, duration, 6)[j]) / (2 * step)
        assert values[j + 1] == pytest.approx(slope, abs=1e-7)
    if name != "sudden":
        assert values[1] > 0.1
        assert RAMPS[name](0.0, duration, 2)[0] == 0
        assert RAMPS[name](duration, duration, 2)[0] == pytest.approx(1, abs=1e-15)


def test_an_eigenstate_takes_long_steps_and_one_time_takes_none():
    net = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": np.full(4, 0.2), "g": np.ones(4)}
    ground = qp.equilibrate(net, params)
    run = evolve(net, params, ground.state, [0.0, 50.0])
    other = evolve(net, params, qp.PureState(4, np.eye(16)[3]), [0.0, 50.0])
    assert run.steps < 0.8 * other.steps
    turned = np.exp(-50j * float(ground.energy)) * ground.state.amplitudes
    assert np.linalg.norm(run.final.amplitudes - turned) < 1e-8
    assert evolve(net, params, ground.state, [1.0]).steps == 0


def test_evolutions_are_saved_and_printed(tmp_path):
    net, first, _, psi = problem(3)
    run = evolve(net, first, qp.PureState(3, psi), [0.0, 1.0])
    again = qp.load(qp.save(tmp_path / "run", run))
    assert isinstance(again, Evolution)
    np.testing.assert_array_equal(again.states.amplitudes, run.states.amplitudes)
    assert repr(run).startswith("Evolution(2 times from 0 to 1, PureState(3 spins")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [1.0, 0.5]}, "rising"),
        ({"times": []}, "rising"),
        ({"times": [0.0, np.nan]}, "must be finite"),
        ({"state": qp.PureState(2, np.ones(4))}, r"shape \(8,\), but has shape \(4,\)"),
        ({"state": qp.PureState(3, np.zeros(8))}, "norm 0"),
        ({"ramp": "cubic"}, "must be one of 'sudden', 'linear', 'smooth', 'quintic', but is 'cubic'"),
        ({"accuracy": 1e-20}, "between 1e-13 and 1"),
        ({"final": {"J": 1.0}}, "must have the names"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    net, first, _, psi = problem(3)
    arguments = {"state": qp.PureState(3, psi), "times": [0.0, 1.0]} | change
    with pytest.raises(ValueError, match=message):
        evolve(net, first, **arguments)


def test_wrong_kinds_are_refused():
    net, first, _, psi = problem(3)
    with pytest.raises(TypeError, match="must be a PureState"):
        evolve(net, first, psi, [0.0, 1.0])
    with pytest.raises(TypeError, match="spin network or an OperatorSystem"):
        evolve(qp.HarmonicNetwork(2, [(0, 1)]), {}, qp.PureState(3, psi), [0.0, 1.0])
    with pytest.raises(MemoryError, match=r"3 spins \(40 vectors of 32 float64\)"):
        evolve(net, first, qp.PureState(3, psi), [0.0, 1.0], memory=1000)
    driven = qp.TransverseFieldIsing(1, [], input_sites=[0])
    with pytest.raises(ValueError, match="batch axis of length 2"):
        evolve(driven, {"J": [], "h": [0], "g": [1]}, qp.PureState(1, np.ones(2)), [0, 1], inputs=[[1.0], [2.0]])
