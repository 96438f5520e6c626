"""Stationary actions: closed forms, other ways to the same gradient, and trajectories that are no minima."""

import numpy as np
import pytest
import scipy.linalg

import qeqprop as qp
from qeqprop.classical import LagrangianSystem, Minimizer, StateCost, StationaryAction

from ..measures import deviation, norm

PERIOD = 12.0


def half_squared_error(q, y):
    return ((q - y) ** 2).sum() / 2


def oscillator(p, q, v, x):
    return p["m"] * v @ v / 2 - p["k"] * q @ q / 2 + x * q[0]


def coupled(p, q, v, x):
    """Two anharmonic oscillators."""
    well = (p["k"] * q**2).sum() / 2 + (p["a"] * q**4).sum() / 4
    return p["m"] * v @ v / 2 - well - p["c"] * (q[0] - q[1]) ** 2 / 2 + x @ q


def problem(ends, steps=40):
    net = LagrangianSystem(
        coupled, 2, {"m": (), "k": (2,), "a": (2,), "c": ()}, dt=PERIOD / steps, steps=steps, ends=ends, inputs=(2,)
    )
    params = {"m": np.array(1.0), "k": np.array([1.0, 2.3]), "a": np.array([0.3, 0.2]), "c": np.array(0.5)}
    phase = 2 * np.pi * net.midpoints / PERIOD
    read = range(0, steps, 7)
    given = {"target": 0.3 * np.ones((len(read), 2)), "inputs": np.stack([np.cos(phase), 0.5 * np.sin(2 * phase)], 1)}
    return net, params, StateCost(half_squared_error, read), given


@pytest.mark.parametrize("ends", [None, [[0.1, 0.2], [0.3, -0.2]]], ids=["periodic", "fixed ends"])
def test_ep_of_a_trajectory_is_linear_response_is_finite_differences(ends):
    net, params, cost, given = problem(ends)
    limit = qp.ep_gradient(net, params, cost, **given)
    assert limit.free.stats["negative_directions"] > 3  # no minimum
    assert all(norm({name: grad}) > 0.1 for name, grad in limit.grad.items())
    known = qp.finite_difference(net, params, cost, **given, step=1e-3)
    assert deviation(limit.grad, known.grad) < 1e-9
    nudged = qp.ep_gradient(net, params, cost, **given, scheme=qp.centered(1e-4))
    assert deviation(nudged.grad, known.grad) < 1e-6
    quarter = qp.ep_gradient(net, params, cost, **given, scheme=qp.centered(4e-3))
    half = qp.ep_gradient(net, params, cost, **given, scheme=qp.centered(2e-3))
    order = np.log2(deviation(quarter.grad, limit.grad) / deviation(half.grad, limit.grad))
    assert order == pytest.approx(2, abs=0.1)


def test_a_driven_oscillator_has_the_amplitude_of_the_midpoint_rule():
    steps, k, m = 64, 3.0, 1.5
    net = LagrangianSystem(oscillator, 1, {"m": (), "k": ()}, dt=PERIOD / steps, steps=steps, inputs=())
    omega = 2 * np.pi / PERIOD
    motion = qp.equilibrate(net, {"m": m, "k": k}, inputs=np.cos(omega * net.midpoints))
    half = (
        omega * net.dt / 2
    )  # of the exponential: velocity 2i sin(half)/dt, mean cos(half), and the drive's mean cos(half)
    amplitude = np.cos(half) / (k * np.cos(half) ** 2 - 4 * m * np.sin(half) ** 2 / net.dt**2)
    np.testing.assert_allclose(motion.state.position[:, 0], amplitude * np.cos(omega * net.times), atol=1e-12)


def test_the_index_counts_conjugate_points():
    """With fixed ends the n-th mode of a free oscillator turns unstable at half its period: index floor(omega T / pi)."""
    for time, index in ((3.0, 0), (3.3, 1), (10.0, 3)):
        net = LagrangianSystem(
            oscillator, 1, {"m": (), "k": ()}, dt=time / 200, steps=200, inputs=(), ends=[[0.0], [1.0]]
        )
        motion = qp.equilibrate(net, {"m": 1.0, "k": 1.0})
        assert motion.stats["negative_directions"] == index
        middle = np.sin(time / 2) / np.sin(time)
        assert motion.state.position[100, 0] == pytest.approx(middle, rel=5e-3)


def test_long_trajectories_know_their_spectrum_without_a_dense_matrix():
    net, params, _, given = problem(None, steps=400)
    motion = qp.equilibrate(net, params, inputs=given["inputs"])
    driven = net.with_inputs(given["inputs"])
    levels = scipy.linalg.eigvalsh(driven.curvature(params, motion.state.position).toarray())
    assert len(levels) == 800
    assert motion.stats["negative_directions"] == np.sum(levels < 0) > 0
    assert motion.stats["smallest_curvature"] == pytest.approx(levels[np.argmin(np.abs(levels))], rel=1e-4)


def test_a_batch_of_drives_has_the_mean_gradient():
    net, params, cost, given = problem(None)
    inputs = np.stack([given["inputs"], 0.5 * given["inputs"][::-1]])
    targets = np.stack([given["target"], -given["target"]])
    both = qp.ep_gradient(net, params, cost, targets, inputs=inputs)
    ones = [qp.ep_gradient(net, params, cost, y, inputs=x).grad for y, x in zip(targets, inputs, strict=True)]
    assert deviation(both.grad, {name: (ones[0][name] + ones[1][name]) / 2 for name in ones[0]}) < 1e-10


def test_motions_that_are_not_isolated_are_refused():
    free = LagrangianSystem(oscillator, 1, {"m": (), "k": ()}, dt=0.1, steps=50, inputs=())
    resonant = 4 * np.tan(np.pi / 50) ** 2 / 0.1**2  # the frequency of the midpoint rule
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.equilibrate(free, {"m": 1.0, "k": resonant})
    with pytest.raises(qp.EquilibriumError, match="degenerate"):  # nothing says where a free particle is
        qp.equilibrate(free, {"m": 1.0, "k": 0.0})
    cost = StateCost(lambda q, y: -(q**2).sum())
    strong = qp.centered(2.0)
    with pytest.raises(qp.EquilibriumError, match="branch jump"):
        qp.ep_gradient(free, {"m": 1.0, "k": 3.0}, cost, inputs=np.cos(free.midpoints), scheme=strong)


def test_bad_arguments_are_refused_before_any_work():
    shapes = {"m": (), "k": ()}
    with pytest.raises(ValueError, match=r"`ends` must have shape \(2, 1\)"):
        LagrangianSystem(oscillator, 1, shapes, dt=0.1, steps=5, ends=[0.0, 1.0], inputs=())
    with pytest.raises(ValueError, match="`lagrangian` must return a scalar"):
        LagrangianSystem(lambda p, q, v, x: q, 1, shapes, dt=0.1, steps=5)
    with pytest.raises(ValueError, match="`steps` must be at least 2"):
        LagrangianSystem(oscillator, 1, shapes, dt=0.1, steps=1, inputs=())
    with pytest.raises(MemoryError, match="Take fewer steps"):
        LagrangianSystem(lambda p, q, v, x: p["m"] * v @ v, 10**4, {"m": ()}, dt=0.1, steps=10**4)
    net, params, _, given = problem(None)
    with pytest.raises(ValueError, match=r"`inputs` must have shape \(40, 2\)"):
        qp.equilibrate(net, params, inputs=given["inputs"][1:])
    with pytest.raises(TypeError, match="solves a LagrangianSystem, not"):
        qp.equilibrate(qp.classical.FlowNetwork(2, [(0, 1)], grounded=[0]), {"k": [1.0]}, solver=StationaryAction())
    with pytest.raises(qp.EquilibriumError):  # a minimiser finds no minimum, and says so
        qp.equilibrate(net, params, inputs=given["inputs"], solver=Minimizer(max_iterations=20))


def test_a_gradient_is_saved_and_loaded(tmp_path):
    net, params, cost, given = problem(None)
    out = qp.ep_gradient(net, params, cost, **given, scheme=qp.centered(1e-3))
    qp.save(tmp_path / "gradient.npz", out)
    again = qp.load(tmp_path / "gradient.npz")
    assert deviation(again.grad, out.grad) == 0
    np.testing.assert_array_equal(again.free.state.position, out.free.state.position)
