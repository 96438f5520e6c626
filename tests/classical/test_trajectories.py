"""Nudged gradient flows show the errors of recurrent backpropagation, at every time."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import qeqprop as qp
from qeqprop.classical import (
    Clamp,
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
from qeqprop.classical.rules import half_squared_error

from ..measures import deviation, norm
from .registry import MOVING

PROBLEMS = {case.name: (case.problem, case.inputs) for case in MOVING}


def quadratic(p, s, x):
    """A positive-definite quadratic form with a load."""
    return s @ (p["a"] @ p["a"].T + jnp.eye(len(s))) @ s / 2 - p["f"] @ s


@pytest.mark.parametrize("name", PROBLEMS)
def test_velocities_are_the_errors_of_recurrent_backpropagation_at_every_time(name):
    problem, inputs = PROBLEMS[name]
    time = {"dt": 0.1, "steps": 300, "inputs": inputs}
    seen, computed = nudged_velocities(*problem, **time), recurrent_backpropagation(*problem, **time)
    assert seen.deviation(computed) < 1e-6
    assert min(np.abs(computed.errors[0]).max(), *(np.abs(g[-1]).max() for g in computed.gradient.values())) > 1e-2
    one_sided = nudged_velocities(*problem, **time, scheme=qp.one_sided(1e-4))
    assert 1e-6 < one_sided.deviation(computed) < 1e-2  # it is the theorem that is at work, not an identity of the code
    larger = nudged_velocities(*problem, **time, scheme=qp.centered(1e-2)).deviation(computed)
    smaller = nudged_velocities(*problem, **time, scheme=qp.centered(1e-3)).deviation(computed)
    assert 90 < larger / smaller < 110  # second order in beta


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_gradient_arises_in_time(name):
    problem, inputs = PROBLEMS[name]
    out = recurrent_backpropagation(*problem, dt=0.1, steps=300, inputs=inputs)
    exact = qp.linear_response(*problem, inputs=inputs).grad
    for parameter, grad in out.gradient.items():
        np.testing.assert_allclose(grad[-1], exact[parameter], atol=1e-4 * norm(exact))
        assert np.linalg.norm(grad[10] - exact[parameter]) > 1e-3 * np.linalg.norm(exact[parameter])
        rates = out.rates[parameter]  # the gradient is the integral of the rates: Simpson's rule
        integral = 0.1 / 3 * (rates[:-2] + 4 * rates[1:-1] + rates[2:])
        np.testing.assert_allclose(grad[2:] - grad[:-2], integral, atol=1e-3 * np.abs(rates).max())


def test_quadratic_energies_follow_the_exact_exponential():
    rng = np.random.default_rng(2)
    params = {"a": rng.normal(size=(4, 4)), "f": rng.normal(size=4)}
    system = EnergySystem(quadratic, (4,), {"a": (4, 4), "f": (4,)})
    cost, target = StateCost(half_squared_error, [0, 2]), np.array([1.0, -1.0])
    hessian = params["a"] @ params["a"].T + np.eye(4)
    kick = np.zeros(4)
    kick[[0, 2]] = np.linalg.solve(hessian, params["f"])[[0, 2]] - target
    time = {"dt": 0.005, "steps": 300}

    def exponential(matrix):
        """exp(-matrix t) kick at all times."""
        rates, modes = np.linalg.eigh(matrix)
        return np.exp(-0.005 * np.arange(301)[:, None] * rates) * (kick @ modes) @ modes.T

    np.testing.assert_allclose(exponential(hessian)[200], scipy.linalg.expm(-hessian) @ kick, atol=1e-13)
    computed = recurrent_backpropagation(system, params, cost, target, **time)
    np.testing.assert_allclose(computed.errors, exponential(hessian), atol=1e-9)
    beta = 0.3  # the nudge is a spring, so that the velocity is known at any strength
    seen = nudged_velocities(system, params, cost, target, **time, scheme=qp.one_sided(beta))
    np.testing.assert_allclose(seen.errors, exponential(hessian + beta * np.diag([1.0, 0.0, 1.0, 0.0])), atol=1e-9)


def test_what_does_not_move_in_time_is_refused():
    problem, inputs = PROBLEMS["Hopfield"]
    with pytest.raises(
        ValueError, match=r"`dt` must be below .*, but is 9: the largest curvature at the free state is"
    ):
        nudged_velocities(*problem, inputs=inputs, dt=9.0, steps=5)
    with pytest.raises(ValueError, match="`dt` must be positive"):
        recurrent_backpropagation(*problem, inputs=inputs, dt=0.0, steps=5)
    with pytest.raises(ValueError, match="one sample, but has a batch axis of length 2"):
        nudged_velocities(*problem, inputs=np.stack([inputs, inputs]), dt=0.1, steps=5)
    with pytest.raises(TypeError, match="real Stencil"):
        nudged_velocities(*problem, inputs=inputs, dt=0.1, steps=5, scheme=qp.LinearResponse())
    with pytest.raises(TypeError, match="needs a `StateCost`, but the nudge is a Clamp"):
        nudged_velocities(*problem[:2], Clamp([4, 5]), problem[3], inputs=inputs, dt=0.1, steps=5)
    rod = ElasticNetwork([(0, 1)], [[0.0, 0.0], [1.0, 0.0]], pinned=[0], stiffness=0.5)
    with pytest.raises(TypeError, match="written in JAX"):
        nudged_velocities(rod, {"k": [1.0], "l": [1.0]}, StateCost(half_squared_error), 0.0, dt=0.1, steps=5)
    with pytest.raises(MemoryError, match="Take fewer steps"):
        nudged_velocities(*problem, inputs=inputs, dt=0.1, steps=10**9)


def test_processes_print_themselves_and_are_saved(tmp_path):
    problem, inputs = PROBLEMS["Hopfield"]
    out = recurrent_backpropagation(*problem, dt=0.1, steps=300, inputs=inputs)
    assert repr(out).startswith("ErrorProcess(301 times to 30, error down to")
    loaded = qp.load(qp.save(tmp_path / "process", out))
    np.testing.assert_array_equal(loaded.errors, out.errors)
    assert loaded.deviation(out) == 0


def test_systems_that_are_nudged_already_keep_their_nudges():
    (system, params, cost, target), inputs = PROBLEMS["Hopfield"]
    pulled = system.with_inputs(inputs).nudged(
        StateCost(half_squared_error, [0, 1]).term(None, np.array([1.0, 2.0])), 0.5
    )
    problem, time = (pulled, params, cost, target), {"dt": 0.1, "steps": 300}
    exact = qp.linear_response(*problem).grad
    seen, computed = nudged_velocities(*problem, **time), recurrent_backpropagation(*problem, **time)
    updates = nudged_updates(*problem, **time)
    back = backpropagation_through_time(*problem, **time, free_steps=400)
    slow = DiscreteTime(dt=0.1, free_steps=400, nudged_steps=300)
    learnt = continual_step(*problem, solver=slow, beta=1e-4, rate=1e-9).grad_estimate
    assert seen.deviation(computed) < 1e-6
    assert updates.deviation(back) < 1e-6
    assert deviation({name: grad[-1] for name, grad in computed.gradient.items()}, exact) < 1e-5
    assert deviation({name: grad[-1] for name, grad in back.gradient.items()}, exact) < 1e-5
    assert deviation(learnt, exact) < 1e-3
    assert deviation(qp.linear_response(*PROBLEMS["Hopfield"][0], inputs=inputs).grad, exact) > 1e-2
