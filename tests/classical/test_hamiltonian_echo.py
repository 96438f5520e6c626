"""Hamiltonian-echo learning: its gradient is that of backpropagation through the leapfrog."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import HamiltonianSystem, StateCost
from qeqprop.core.precision import jax_float64

from ..measures import deviation, norm

STEPS, DT = 40, 0.15
READ = [3, 10, 11, 25, 40]
START = np.array([[0.5, -0.2], [0.1, 0.4]])
SHAPES = {"k": (2,), "a": (2,), "c": (), "w": (2, 3), "m": (2,)}
RNG = np.random.default_rng(0)
PARAMS = {
    "k": np.array([1.0, 2.0]),
    "a": np.array([0.4, 0.2]),
    "c": np.array(0.7),
    "w": RNG.normal(size=(2, 3)),
    "m": np.array([1.0, 1.7]),
}
GIVEN = {"inputs": RNG.normal(size=(STEPS + 1, 3)), "target": RNG.normal(size=(5, 2))}


def potential(p, q, x):
    """Anharmonic wells with a pendulum's coupling, driven through weights."""
    wells = (p["k"] * q**2).sum() / 2 + (p["a"] * q**4).sum() / 4
    return wells + p["c"] * (1 - jnp.cos(q[0] - q[1])) - (p["w"] @ x) @ q


def kinetic(p, momentum):
    return (momentum**2 / p["m"]).sum() / 2


def of_trajectory(q, y):
    """Not a sum over times."""
    return ((q - y) ** 2).sum() / 2 + q[0] @ q[2]


NET = HamiltonianSystem(potential, 2, SHAPES, dt=DT, steps=STEPS, start=START, kinetic=kinetic, inputs=(3,))
COST = StateCost(of_trajectory, READ)


def loss(params):
    """The cost, by a leapfrog of its own."""
    slope, velocity = jax.grad(potential, argnums=1), jax.grad(kinetic, argnums=1)

    def step(at, drives):
        (position, momentum), (drive, next_drive) = at, drives
        momentum = momentum - DT / 2 * slope(params, position, drive)
        position = position + DT * velocity(params, momentum)
        return (position, momentum - DT / 2 * slope(params, position, next_drive)), position

    inputs = GIVEN["inputs"]
    _, path = jax.lax.scan(step, tuple(jnp.asarray(START)), (inputs[:-1], inputs[1:]))
    return of_trajectory(path[np.array(READ) - 1], GIVEN["target"])


@pytest.fixture(scope="module")
def backpropagated():
    jax_float64()
    return {name: np.asarray(grad) for name, grad in jax.jit(jax.grad(loss))(PARAMS).items()}


def test_the_echo_is_backpropagation_through_time(backpropagated):
    assert all(norm({name: grad}) > 0.02 for name, grad in backpropagated.items())
    limit = qp.ep_gradient(NET, PARAMS, COST, **GIVEN)
    assert float(limit.loss) == pytest.approx(float(loss(PARAMS)), rel=1e-12)
    assert deviation(limit.grad, backpropagated) < 1e-12
    assert deviation(qp.ep_gradient(NET, PARAMS, COST, **GIVEN, scheme=qp.centered(1e-5)).grad, backpropagated) < 1e-8
    for scheme, order, widest in (
        (qp.one_sided, 1, 1.1),
        (qp.centered, 2, 60),
    ):  # the echo bends far more than it twists
        outs = [qp.ep_gradient(NET, PARAMS, COST, **GIVEN, scheme=scheme(b)) for b in (4e-4, 2e-4)]
        errors = [deviation(out.grad, backpropagated) for out in outs]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
        assert 0.9 < norm(outs[1].truncation) / (errors[1] * norm(backpropagated)) < widest


def test_it_is_the_gradient_by_finite_differences():
    known = qp.finite_difference(
        NET, PARAMS, COST, **GIVEN, step=1e-3, components={"m": [(0,)], "w": [(1, 2)], "c": [()]}
    )
    limit = qp.ep_gradient(NET, PARAMS, COST, **GIVEN)
    assert deviation(known.grad, limit.grad) < 1e-9


def test_a_linear_motion_is_a_rotation_and_its_echo_comes_home():
    spring = HamiltonianSystem(
        lambda p, q, x: p["k"] * q @ q / 2, 1, {"k": ()}, dt=0.01, steps=300, start=[[1.0], [0.5]]
    )
    motion = qp.equilibrate(spring, {"k": 4.0})
    exact = np.cos(2 * spring.times) + 0.25 * np.sin(2 * spring.times)
    np.testing.assert_allclose(motion.state.position[:, 0], exact, atol=3e-4)
    assert motion.stats["echo_error"] < 1e-12
    # linear motion and a quadratic cost: a centered difference has no truncation error
    cost = StateCost(lambda q, y: ((q - y) ** 2).sum() / 2)
    limit, finite = (
        qp.ep_gradient(spring, {"k": 4.0}, cost, np.zeros((301, 1)), scheme=s) for s in (None, qp.centered(0.1))
    )
    assert finite.grad["k"] == pytest.approx(float(limit.grad["k"]), rel=1e-9)
    assert abs(limit.grad["k"]) > 1


def test_chaos_loses_the_echo_and_the_status_says_so():
    wild = HamiltonianSystem(
        lambda p, q, x: p["k"] * (q[0] ** 2 * q[1] ** 2),
        2,
        {"k": ()},
        dt=0.01,
        steps=12000,
        start=[[1.0, 0.3], [0.2, 1.1]],
    )
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.equilibrate(wild, {"k": 1.0})


def test_bad_arguments_are_refused_before_any_work():
    with pytest.raises(ValueError, match="`kinetic` must be an even function"):
        qp.equilibrate(
            HamiltonianSystem(
                potential, 2, SHAPES, dt=DT, steps=3, start=START, inputs=(3,), kinetic=lambda p, m: (m**2 + m**3).sum()
            ),
            PARAMS,
        )
    with pytest.raises(ValueError, match="`potential` must return a scalar"):
        HamiltonianSystem(lambda p, q, x: q, 2, SHAPES, dt=DT, steps=3)
    with pytest.raises(ValueError, match=r"`start` must have shape \(2, 2\)"):
        HamiltonianSystem(potential, 2, SHAPES, dt=DT, steps=3, start=[0.0, 1.0], inputs=(3,))
    with pytest.raises(ValueError, match=r"`inputs` must have shape \(41, 3\)"):
        qp.equilibrate(NET, PARAMS, inputs=GIVEN["inputs"][1:])
    with pytest.raises(TypeError, match="solves a HamiltonianSystem, not"):
        qp.equilibrate(
            qp.classical.FlowNetwork(2, [(0, 1)], grounded=[0]), {"k": [1.0]}, solver=qp.classical.HamiltonianEcho()
        )
    with pytest.raises(TypeError, match="nudged by a `StateCost`"):
        qp.ep_gradient(NET, PARAMS, qp.classical.Clamp([0]), np.zeros((1, 2)), inputs=GIVEN["inputs"])


def test_a_gradient_is_saved_and_loaded(tmp_path):
    out = qp.ep_gradient(NET, PARAMS, COST, **GIVEN, scheme=qp.centered(1e-3))
    qp.save(tmp_path / "gradient.npz", out)
    again = qp.load(tmp_path / "gradient.npz")
    assert deviation(again.grad, out.grad) == 0
    np.testing.assert_array_equal(again.nudged[0][1].state.origin, out.free.state.position)
