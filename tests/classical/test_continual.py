"""Continual EP: what the parameters learn while the network moves, against EP and backpropagation through time."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    Clamp,
    DiscreteTime,
    Minimizer,
    StateCost,
    backpropagation_through_time,
    continual_step,
    fit_continual,
)
from qeqprop.classical.rules import half_squared_error

from ..measures import deviation, norm
from .test_trajectories import PROBLEMS

STEPS = DiscreteTime(dt=0.2, free_steps=400, nudged_steps=12, truncation=1.0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_updates_are_those_of_ep_as_the_rate_falls(name):
    problem, inputs = PROBLEMS[name]
    for sign in (1, -1):
        ep = qp.ep_gradient(*problem, inputs=inputs, solver=STEPS, scheme=qp.one_sided(sign * 0.1))
        assert norm(ep.grad) > 0.1
        rates, given = (1e-3, 1e-4, 1e-5), {"inputs": inputs, "solver": STEPS, "beta": sign * 0.1}
        found = [continual_step(*problem, rate=eta, **given) for eta in rates]
        errors = [deviation(out.grad_estimate, ep.grad) for out in found]
        slopes = np.log10(np.array(errors[:-1]) / errors[1:])
        np.testing.assert_allclose(slopes, 1.0, atol=0.05)
        assert errors[-1] < 1e-3
        for parameter, displacement in found[0].displacement.items():
            np.testing.assert_array_equal(found[0].params[parameter], problem[1][parameter] + displacement)
        assert float(found[0].loss) == pytest.approx(float(ep.loss), rel=1e-12)


def test_updates_are_those_of_backpropagation_through_time():
    problem, inputs = PROBLEMS["Hopfield"]
    time = {"dt": 0.2, "steps": 30, "free_steps": 400}
    back = backpropagation_through_time(*problem, inputs=inputs, **time)
    for beta in (1e-2, 1e-3, 1e-4):  # both errors, O(beta) and O(eta / beta), fall together
        out = continual_step(*problem, inputs=inputs, solver=STEPS, beta=beta, rate=0.1 * beta**2)
        error = deviation(out.grad_estimate, {name: grad[11] for name, grad in back.gradient.items()})
        assert 0.01 * beta < error < 10 * beta


def test_rates_are_small_against_the_nudge():
    problem, inputs = PROBLEMS["phases"]
    errors = []
    for beta in (0.1, 0.01):
        ep = qp.ep_gradient(*problem, inputs=inputs, solver=STEPS, scheme=qp.one_sided(beta))
        out = continual_step(*problem, inputs=inputs, solver=STEPS, beta=beta, rate=1e-5)
        errors.append(deviation(out.grad_estimate, ep.grad))
    assert errors[1] / errors[0] == pytest.approx(10, rel=0.2)


def test_batches_learn_the_mean_and_parameters_without_a_rate_rest():
    (system, params, cost, target), inputs = PROBLEMS["Hopfield"]
    rng = np.random.default_rng(0)
    inputs, targets = inputs + rng.normal(size=(3, 3)), target + rng.normal(size=(3, 2))
    given = {"solver": STEPS, "beta": 0.01, "rate": {"w": 1e-6, "u": 2e-6}}
    together = continual_step(system, params, cost, targets, inputs=inputs, **given)
    single = [continual_step(system, params, cost, y, inputs=x, **given) for x, y in zip(inputs, targets, strict=True)]
    mean = {name: np.mean([out.displacement[name] for out in single], axis=0) for name in params}
    assert np.all(together.displacement["b"] == 0)
    assert deviation(together.displacement, mean) < 1e-3  # equal but for the motion of the parameters
    np.testing.assert_allclose(together.losses, [float(out.loss) for out in single], rtol=1e-12)
    ep = qp.ep_gradient(system, params, cost, targets, inputs=inputs, solver=STEPS, scheme=qp.one_sided(0.01))
    for name in ("w", "u"):
        assert deviation({name: together.grad_estimate[name]}, {name: ep.grad[name]}) < 1e-3


def test_training_lowers_the_loss_as_ep_does():
    (system, params, cost, _), _ = PROBLEMS["Hopfield"]
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(12, 3))
    data = inputs, np.tanh(inputs @ rng.normal(size=(3, 2)))
    loop = {"epochs": 25, "batch_size": 4, "progress": False}
    steps = DiscreteTime(dt=0.3, free_steps=60, nudged_steps=10, tolerance=0.1, truncation=1.0)
    nudges = []
    continual = fit_continual(
        system, params, cost, data, solver=steps, beta=0.2, rate=0.05, random_sign=True, validation=data,
        callback=lambda _, out, __: nudges.append(out.beta), **loop,
    )  # fmt: skip
    assert set(nudges) == {-0.2, 0.2}
    import optax

    plain = qp.fit(
        system, params, cost, data, solver=steps, scheme=qp.centered(0.2), optimizer=optax.sgd(0.05), validation=data, **loop
    )  # fmt: skip
    first = qp.evaluate(system, params, cost, data, solver=steps).loss
    assert continual.validation_loss[-1] < 0.5 * first
    assert continual.validation_loss[-1] == pytest.approx(plain.validation_loss[-1], rel=0.1)


def test_what_cannot_be_learnt_is_refused():
    problem, inputs = PROBLEMS["Hopfield"]
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        continual_step(*problem, inputs=inputs, solver=DiscreteTime(dt=0.2, free_steps=5))
    restless = continual_step(*problem, inputs=inputs, solver=DiscreteTime(dt=0.2, free_steps=5), throw=False)
    assert restless.status is qp.Status.UNCONVERGED
    with pytest.raises(qp.EquilibriumError, match="not finite"):
        continual_step(*problem, inputs=inputs, solver=DiscreteTime(dt=50.0, free_steps=1000))
    with pytest.raises(TypeError, match="`solver` must be a DiscreteTime"):
        continual_step(*problem, inputs=inputs, solver=Minimizer())
    with pytest.raises(TypeError, match="needs a `StateCost`, but the nudge is a Clamp"):
        continual_step(*problem[:2], Clamp([4]), problem[3], inputs=inputs, solver=STEPS)
    with pytest.raises(ValueError, match="has node 9, but the system has 6 nodes"):
        continual_step(*problem[:2], StateCost(half_squared_error, [9]), 0.0, inputs=inputs, solver=STEPS)
    for changed, message in (
        ({"beta": 0.0}, "`beta` must differ from 0"),
        ({"rate": -1.0}, "`rate` must not be negative"),
        ({"rate": {"v": 1.0}}, "`rate` must have names among"),
    ):
        with pytest.raises(ValueError, match=message):
            continual_step(*problem, inputs=inputs, solver=STEPS, **changed)


def test_steps_print_themselves_and_are_saved(tmp_path):
    problem, inputs = PROBLEMS["Hopfield"]
    out = continual_step(*problem, inputs=inputs, solver=STEPS)
    assert "status = ok" in repr(out)
    loaded = qp.load(qp.save(tmp_path / "step", out))
    np.testing.assert_array_equal(loaded.params["w"], out.params["w"])
    assert loaded.solver.dt == 0.2
