"""The layered engine: blocks at their minima, schedules, starts, precisions, and what a relaxation reports."""

import numpy as np
import pytest
import scipy.optimize

import qeqprop as qp
from qeqprop.classical import BlockDescent, DeepHopfield, Dense, StateCost
from qeqprop.classical.activations import ACTIVATIONS, Diodes
from qeqprop.classical.architecture import SCHEDULES
from qeqprop.classical.rules import half_squared_error

from ..measures import deviation

SKIPS = [Dense(0, 1), Dense(1, 2), Dense(2, 3), Dense(0, 2), Dense(1, 3)]


def network(seed=0, batch=4, scale=0.6, interactions=None, **options):
    net = DeepHopfield((3, 6, 5, 2), interactions=interactions, **options)
    rng = np.random.default_rng(seed)
    params = {n: scale * v if n[0] == "w" else rng.uniform(0.1, 0.5, v.shape) for n, v in net.init_params(rng).items()}
    shape = () if batch is None else (batch,)
    return net.with_inputs(rng.uniform(size=(*shape, 3))), params, rng


@pytest.mark.parametrize("name", [*ACTIVATIONS, "diodes"])
def test_an_activation_minimises_its_energy_in_a_field(name):
    activation = Diodes() if name == "diodes" else ACTIVATIONS[name]
    field, stiffness = np.array([[-2.0, -0.3, 0.2, 0.7, 2.0]]), 0.7
    at = np.zeros((1, 5))
    for _ in range(50):
        at = np.asarray(activation.settle(field, stiffness, at))
    low, high = (np.asarray(bound) for bound in activation.bounds(5))
    assert np.all((at >= low) & (at <= high))

    def energy(s):
        return np.asarray(activation.potential(s) + stiffness * s**2 / 2 - field * s)

    inside = {"tanh": (-1, 1), "sigmoid": (0, 1)}.get(name, (-9, 9))
    for shift in (1e-4, -1e-4, 0.05, -0.05):
        other = np.clip(at + shift, np.maximum(low, inside[0] + 1e-9), np.minimum(high, inside[1] - 1e-9))
        assert np.all(energy(other) >= energy(at) - 1e-12)
    moved = at
    for _ in range(50):
        moved = np.asarray(activation.settle(field + 1e-6, stiffness, moved))
    np.testing.assert_allclose((moved - at) / 1e-6, activation.response(field, stiffness, at, 1.0), atol=1e-5)


def test_a_field_is_minus_the_slope_of_the_energy():
    net, params, rng = network(interactions=SKIPS)
    layers = [net.inputs, *(rng.uniform(size=(4, n)) for n in (6, 5, 2))]
    architecture = net.architecture
    drives = architecture.drives(params, layers[0])
    for layer in (1, 2, 3):
        known = architecture.field(params, layers, drives, layer)
        for unit in range(2):
            energies = []
            for sign in (1, -1):
                moved = [v.copy() for v in layers]
                moved[layer][:, unit] += sign * 1e-5
                energies.append(np.asarray(architecture.energies(params, moved, drives)))
            slope = (energies[0] - energies[1]) / 2e-5
            np.testing.assert_allclose(layers[layer][:, unit] - slope, known[:, unit], atol=1e-9)


@pytest.mark.parametrize("interactions", [None, SKIPS], ids=["chain", "skips"])
def test_the_equilibrium_is_the_bounded_minimum(interactions):
    net, params, _ = network(batch=None, interactions=interactions)
    found = qp.equilibrate(net, params)
    splits = [6, 11]

    def energy(s):
        state = qp.classical.LayeredState((net.inputs, *np.split(s, splits)), batched=False)
        return float(net.energy(params, state).mean)

    bounds = [(0, 1)] * 11 + [(None, None)] * 2
    known = scipy.optimize.minimize(energy, np.full(13, 0.4), bounds=bounds, tol=1e-14)
    np.testing.assert_allclose(found.state.position[3:], known.x, atol=1e-5)
    assert float(found.energy) == pytest.approx(known.fun, abs=1e-10)
    assert np.any(found.state.position[3:14] == 0)  # some units are at a bound,
    assert np.any(found.state.position[3:14] > 0)  # some are not


def test_schedules_are_groups_of_layers():
    chain, skips = network()[0].architecture, network(interactions=SKIPS)[0].architecture
    assert SCHEDULES["even_odd"](chain) == ((1, 3), (2,))
    assert SCHEDULES["even_odd"](skips) == ((1,), (2,), (3,))  # 1-2-3-1 is a triangle
    assert SCHEDULES["asynchronous"](chain) == ((1,), (2,), (3,))
    assert SCHEDULES["synchronous"](chain) == ((1, 2, 3),)


@pytest.mark.parametrize("interactions", [None, SKIPS], ids=["chain", "skips"])
def test_all_schedules_and_starts_lead_to_one_minimum_of_a_convex_energy(interactions):
    net, params, _ = network(scale=0.3, interactions=interactions)
    known = qp.equilibrate(net, params).state.position
    sweeps = {}
    for schedule in SCHEDULES:
        for feedforward in (False, True):
            solver = BlockDescent(schedule=schedule, feedforward=feedforward)
            found = qp.equilibrate(net, params, solver=solver)
            np.testing.assert_allclose(found.state.position, known, atol=1e-13)
            sweeps[schedule, feedforward] = found.stats["sweeps"]
    assert sweeps["synchronous", False] > sweeps["even_odd", False]


def test_synchronous_updates_may_alternate_and_say_so():
    net = DeepHopfield((1, 1, 1), outputs="hard_sigmoid")
    params = {"w0": [[0.0]], "b0": [0.0], "w1": [[2.0]], "b1": [0.0]}
    start = qp.equilibrate(net, params, inputs=[0.0])
    state = qp.classical.LayeredState((np.zeros(1), np.ones(1), np.zeros(1)), batched=False)
    away = qp.core.solver.Equilibrium(state, start.energy, start.residual, None, start.status, {})
    alternating = BlockDescent(schedule="synchronous", max_sweeps=100)
    found = qp.equilibrate(net, params, init=away, solver=alternating, throw=False)
    assert found.status is qp.Status.UNCONVERGED
    assert qp.equilibrate(net, params, init=away).status is qp.Status.OK
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.equilibrate(net, params, init=away, solver=alternating)


def test_a_state_that_leaves_a_saddle_point_is_waited_for():
    """Its residual grows with it, by 4 % a sweep, for some 250 of them."""
    net = DeepHopfield((1, 1, 1), activation="hard_tanh", outputs="hard_tanh")
    params = {"w0": [[1.0]], "b0": [0.0], "w1": [[1.02]], "b1": [0.0]}
    found = qp.equilibrate(net, params, inputs=[1e-6])
    np.testing.assert_array_equal(found.state.position[1:], 1.0)
    assert found.stats["sweeps"] > 100


def test_a_relaxation_stops_at_its_tolerance_and_reports_it():
    net, params, _ = network()
    exact = qp.equilibrate(net, params)
    sweeps = []
    for tolerance in (1e-2, 1e-5, 1e-9):
        found = qp.equilibrate(net, params, solver=BlockDescent(tolerance=tolerance))
        assert found.status is qp.Status.OK
        assert found.stats["relative_residual"] <= tolerance
        assert 1e-4 * tolerance < np.abs(found.state.position - exact.state.position).max() < 10 * tolerance
        sweeps.append(found.stats["sweeps"])
    assert sweeps[0] < sweeps[1] < sweeps[2] < exact.stats["sweeps"]
    short = qp.equilibrate(net, params, solver=BlockDescent(max_sweeps=2), throw=False)
    assert short.stats["sweeps"] == 2
    assert short.status is qp.Status.UNCONVERGED


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("bfloat16", 0.1)])
def test_lower_precisions_are_as_good_as_their_rounding(dtype, bound):
    net, params, _ = network()
    solver = BlockDescent(dtype=dtype)
    exact = qp.equilibrate(net, params)
    found = qp.equilibrate(net, params, solver=solver, throw=False)
    error = np.abs(found.state.position - exact.state.position).max()
    assert bound / 1000 < error < bound
    assert found.state.position.dtype == np.float64
    assert bound / 1e5 < found.stats["relative_residual"] < bound  # exact ones are at 1e-15
    problem = net, params, StateCost(half_squared_error, net.outputs), np.eye(2)[[0, 1, 1, 0]]
    known, ours = (
        qp.ep_gradient(*problem, inputs=net.inputs, scheme=qp.centered(0.5), solver=s, throw=False)
        for s in (BlockDescent(), solver)
    )
    assert bound / 1000 < deviation(ours.grad, known.grad) < 3 * bound
    np.testing.assert_allclose(ours.losses, known.losses, rtol=10 * bound)


def test_a_nudge_that_throws_the_state_into_another_basin_is_reported():
    net = DeepHopfield((1, 1, 1), activation="hard_tanh", outputs="hard_tanh")  # two minima: both up, or both down
    params = {"w0": [[0.0]], "b0": [0.0], "w1": [[1.5]], "b1": [0.05]}
    free, cost = qp.equilibrate(net, params), StateCost(half_squared_error, net.outputs)
    assert free.state.layers[2] == 1.0
    term, checked = cost.term(free.state, np.array([-1.0])), net.check_params(params)
    stays, falls = (BlockDescent().solve(net.nudged(term, beta), checked, init=free) for beta in (0.1, 2.0))
    assert stays.status is qp.Status.OK
    assert stays.state.layers[2] == 1.0
    assert falls.status is qp.Status.BRANCH_JUMP
    assert falls.state.layers[2] == -1.0


def test_batches_are_single_samples():
    net, params, _ = network(interactions=SKIPS)
    cost, target = StateCost(half_squared_error, net.outputs), np.linspace(-1, 1, 8).reshape(4, 2)
    single = [
        qp.ep_gradient(net, params, cost, y, inputs=x, scheme=qp.centered(0.1))
        for x, y in zip(net.inputs, target, strict=True)
    ]
    out = qp.ep_gradient(net, params, cost, target, inputs=net.inputs, scheme=qp.centered(0.1))
    np.testing.assert_allclose(out.losses, [float(one.loss) for one in single], rtol=1e-12)
    for name, grad in out.grad.items():
        np.testing.assert_allclose(grad, np.mean([one.grad[name] for one in single], axis=0), rtol=1e-9, atol=1e-12)


def test_results_survive_a_file(tmp_path):
    net, params, _ = network(readout=3)
    cost = StateCost(qp.classical.softmax_cross_entropy, net.outputs)
    out = qp.ep_gradient(net, params, cost, np.eye(3)[[0, 1, 2, 0]], inputs=net.inputs, scheme=qp.centered(0.1))
    qp.save(tmp_path / "gradient.npz", out)
    back = qp.load(tmp_path / "gradient.npz")
    np.testing.assert_array_equal(back.grad["w2"], out.grad["w2"])
    np.testing.assert_array_equal(back.free.state.position, out.free.state.position)
    np.testing.assert_array_equal(back.nudged[0][1].state.pull, out.nudged[0][1].state.pull)
    assert repr(back.solver) == repr(out.solver)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BlockDescent(schedule="random"), ValueError, "`schedule` must be one of even_odd"),
        (lambda: BlockDescent(dtype="float16"), ValueError, "`dtype` must be one of float64"),
        (lambda: BlockDescent(tolerance=2.0), ValueError, "between 1e-16 and 1"),
        (lambda: qp.equilibrate(network()[0], network()[1], inputs=np.ones(4)), ValueError, r"must have shape \(3,\)"),
        (
            lambda: qp.equilibrate(*network(batch=None)[:2], solver=qp.classical.Minimizer()),
            TypeError,
            "not DeepHopfield",
        ),
        (lambda: BlockDescent().solve(qp.TransverseFieldIsing(2, [(0, 1)]), {}), TypeError, "solves layered networks"),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()
