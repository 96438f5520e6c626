"""Discrete-time EP: every nudged update is a gradient of backpropagation through time."""

import jax
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    DiscreteTime,
    ElasticNetwork,
    EnergySystem,
    StateCost,
    backpropagation_through_time,
    continual_step,
    nudged_updates,
    nudged_velocities,
    recurrent_backpropagation,
)
from qeqprop.classical.domains import Box
from qeqprop.classical.rules import half_squared_error

from ..measures import deviation, norm
from .test_trajectories import PROBLEMS


@pytest.mark.parametrize("name", PROBLEMS)
def test_nudged_updates_are_gradients_of_backpropagation_through_time_step_by_step(name):
    problem, inputs = PROBLEMS[name]
    time = {"dt": 0.2, "steps": 30, "inputs": inputs}
    gradients = backpropagation_through_time(*problem, **time, free_steps=800)
    assert gradients.residual < 1e-13  # the free state has come to rest
    updates = nudged_updates(*problem, **time, scheme=qp.centered(1e-5))
    assert updates.deviation(gradients) < 1e-8
    assert min(np.abs(gradients.errors[0]).max(), *(np.abs(r[0]).max() for r in gradients.rates.values())) > 1e-2
    for beta in (1e-2, 1e-3):
        assert nudged_updates(*problem, **time, scheme=qp.centered(beta)).deviation(gradients) > 1e-7 * (beta / 1e-3)


def test_backpropagation_through_time_is_jax_through_the_whole_iteration():
    problem, inputs = PROBLEMS["Hopfield"]
    system, params, cost, target = problem

    def loss(params):
        slope = jax.grad(system.potential, argnums=1)
        s, _ = jax.lax.scan(lambda s, _: (s - 0.2 * slope(params, s, inputs), None), system.start(), None, length=150)
        return cost.function(s[np.array([4, 5])], target)

    known = jax.jit(jax.grad(loss))(params)
    ours = backpropagation_through_time(*problem, dt=0.2, steps=150, free_steps=150, inputs=inputs)
    for name, grad in known.items():
        assert np.abs(grad).max() > 1e-2
        np.testing.assert_allclose(ours.gradient[name][-1], grad, rtol=1e-12, atol=1e-14)


def test_k_nudged_steps_give_the_gradient_of_k_steps_back():
    problem, inputs = PROBLEMS["Hopfield"]
    updates = nudged_updates(*problem, dt=0.2, steps=30, inputs=inputs)
    for k in (1, 7, 20):
        solver = DiscreteTime(dt=0.2, free_steps=300, nudged_steps=k, truncation=2.0)
        out = qp.ep_gradient(*problem, inputs=inputs, solver=solver, scheme=qp.centered(1e-4))
        for name, grad in out.grad.items():
            np.testing.assert_allclose(grad, updates.gradient[name][k - 1], atol=1e-9)
    exact = qp.linear_response(*problem, inputs=inputs).grad
    converged = qp.ep_gradient(*problem, inputs=inputs, solver=DiscreteTime(dt=0.2, free_steps=300))
    assert norm({name: converged.grad[name] - exact[name] for name in exact}) < 1e-6 * norm(exact)
    assert norm({name: updates.gradient[name][6] - exact[name] for name in exact}) > 1e-2 * norm(exact)


def test_discrete_and_continuous_time_meet_at_short_steps():
    problem, inputs = PROBLEMS["phases"]

    def distance(dt):
        steps = round(1 / dt)
        iterated = nudged_updates(*problem, dt=dt, steps=steps, inputs=inputs)
        flowing = recurrent_backpropagation(*problem, dt=dt, steps=steps, inputs=inputs)
        return np.abs(iterated.errors - flowing.errors[:-1]).max()

    assert 1.9 < distance(0.02) / distance(0.01) < 2.1


def test_phases_that_have_not_settled_are_refused():
    problem, inputs = PROBLEMS["Hopfield"]
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.ep_gradient(*problem, inputs=inputs, solver=DiscreteTime(dt=0.2, free_steps=5))
    truncated = DiscreteTime(dt=0.2, free_steps=300, nudged_steps=5)
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.ep_gradient(*problem, inputs=inputs, solver=truncated)
    out = qp.ep_gradient(*problem, inputs=inputs, solver=truncated, throw=False)
    assert 0.01 < out.nudged[0][1].stats["relaxed"] < 1
    with pytest.raises(qp.EquilibriumError, match="not finite"):
        qp.ep_gradient(*problem, inputs=inputs, solver=DiscreteTime(dt=50.0, free_steps=1000))
    loose = DiscreteTime(dt=0.2, free_steps=15, tolerance=0.5)  # rests by its own standard, but not against the nudge
    assert qp.equilibrate(problem[0], problem[1], inputs=inputs, solver=loose).status is qp.Status.OK
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.ep_gradient(*problem, inputs=inputs, solver=loose)


def test_bad_arguments():
    problem, inputs = PROBLEMS["Hopfield"]
    with pytest.raises(ValueError, match="`free_steps` must be at least steps = 30, but is 20"):
        backpropagation_through_time(*problem, dt=0.1, steps=30, free_steps=20, inputs=inputs)
    with pytest.raises(ValueError, match="`dt` must be below"):
        nudged_updates(*problem, dt=5.0, steps=3, inputs=inputs)
    with pytest.raises(ValueError, match="`tolerance` must be positive"):
        DiscreteTime(dt=0.1, free_steps=10, tolerance=0.0)
    with pytest.raises(ValueError, match="no linear response"):
        qp.linear_response(*problem, inputs=inputs, solver=DiscreteTime(dt=0.2, free_steps=300))
    rod = ElasticNetwork([(0, 1)], [[0.0, 0.0], [1.0, 0.0]], pinned=[0], stiffness=0.5)
    with pytest.raises(TypeError, match="written in JAX"):
        qp.equilibrate(rod, {"k": [1.0], "l": [1.0]}, solver=DiscreteTime(dt=0.1, free_steps=10))


def test_batches_are_means_of_single_samples():
    (system, params, cost, target), inputs = PROBLEMS["Hopfield"]
    rng = np.random.default_rng(3)
    inputs, targets = inputs + rng.normal(size=(4, 3)), target + rng.normal(size=(4, 2))
    solver = DiscreteTime(dt=0.3, free_steps=150, nudged_steps=12, truncation=1.0)
    for scheme in (qp.one_sided(0.1), qp.centered(0.1)):
        together = qp.ep_gradient(system, params, cost, targets, inputs=inputs, solver=solver, scheme=scheme)
        single = [
            qp.ep_gradient(system, params, cost, y, inputs=x, solver=solver, scheme=scheme)
            for x, y in zip(inputs, targets, strict=True)
        ]
        for name, grad in together.grad.items():
            assert np.abs(grad).max() > 1e-2
            np.testing.assert_allclose(grad, np.mean([out.grad[name] for out in single], axis=0), rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(together.losses, [float(out.loss) for out in single], rtol=1e-12)
    outputs = qp.predict(system, params, cost, inputs, solver=solver)
    np.testing.assert_allclose(outputs[2], single[2].free.state.position[[4, 5]], rtol=1e-12)


def box_and_held():
    """A Hopfield network of hard sigmoids, some at their bounds, and one unit that is held."""
    rng = np.random.default_rng(4)

    def energy(p, s, x):
        return s @ s / 2 - s @ p["w"] @ s / 2 - p["b"] @ s

    held = np.arange(6) == 2
    system = EnergySystem(
        energy, (6,), {"w": (6, 6), "b": (6,)}, start=np.full(6, 0.4), domain=Box(0.0, 1.0), held=held
    )
    weights = 0.1 * rng.normal(size=(6, 6))
    return system, {"w": weights + weights.T, "b": np.array([-0.5, 0.4, 0.3, 1.8, 0.5, 0.3])}


def test_bounded_and_held_coordinates_stay_where_they_must():
    system, params = box_and_held()
    found = qp.equilibrate(system, params, solver=DiscreteTime(dt=0.3, free_steps=200))
    s = found.state.position
    assert s[2] == 0.4
    slope = s - params["w"] @ s - params["b"]
    np.testing.assert_allclose(np.delete(s - np.clip(s - slope, 0, 1), 2), 0, atol=1e-12)
    assert np.sum(s == 0) >= 1
    assert np.sum(s == 1) >= 1
    assert np.all((s[[4, 5]] > 0.05) & (s[[4, 5]] < 0.95))
    cost, target = StateCost(half_squared_error, [4, 5]), np.array([0.9, 0.1])
    solver = DiscreteTime(dt=0.3, free_steps=200)
    ep = qp.ep_gradient(system, params, cost, target, solver=solver, scheme=qp.centered(1e-4))
    known = qp.finite_difference(system, params, cost, target, solver=solver, step=1e-3)
    assert norm({"b": ep.grad["b"]}) > 1e-2
    assert deviation(ep.grad, known.grad) < 1e-6
    slow = continual_step(system, params, cost, target, solver=solver, beta=1e-3, rate=1e-8)
    assert deviation(slow.grad_estimate, known.grad) < 1e-2
    with pytest.raises(ValueError, match="coordinates without bounds"):
        nudged_updates(system, params, cost, target, dt=0.1, steps=3)


def test_held_coordinates_show_no_errors():
    smooth, params, cost, target = PROBLEMS["Hopfield"][0]
    held = np.arange(6) == 4
    system = EnergySystem(smooth.potential, (6,), smooth.param_shapes, inputs=(3,), start=np.full(6, 0.3), held=held)
    problem, time = (system, params, cost, target), {"dt": 0.2, "steps": 40, "inputs": PROBLEMS["Hopfield"][1]}
    back = backpropagation_through_time(*problem, **time, free_steps=400)
    assert nudged_updates(*problem, **time, scheme=qp.centered(1e-5)).deviation(back) < 1e-8
    assert nudged_velocities(*problem, **time).deviation(recurrent_backpropagation(*problem, **time)) < 1e-6
    assert np.all(back.errors[:, 4] == 0)
    assert np.abs(back.errors[:, 5]).max() > 1e-2
