"""Agnostic equilibrium propagation: the displacement of free parameters is a gradient step."""

from typing import Any

import numpy as np
import pytest

import qeqprop as qp

from ..measures import deviation, norm
from ..registry import BY_NAME

BETA = 0.1
Problem = tuple[Any, dict[str, np.ndarray], Any]


def chain(hbar: float) -> Problem:
    """Springs and rest lengths: classical at hbar = 0."""
    edges = [(i, i + 1) for i in range(5)] + [(0, 3)]
    network = qp.HarmonicNetwork(
        6, edges, hbar=hbar, trainable=("k", "l", "kappa"), fixed={"f": [0.5, 0, 0, -0.3, 0, 0.2]}
    )
    return network, network.init_params(1), qp.ObservableCost((qp.R(5) - 0.7) ** 2 + qp.R(2) ** 2)


def spins() -> Problem:
    edges = [(0, 1), (1, 2), (2, 3), (0, 2)]
    params = {
        "J": np.array([0.5, -0.4, 0.6, 0.3]),
        "h": np.array([0.3, -0.2, 0.5, 0.1]),
        "g": np.array([1.0, 1.2, 0.9, 1.1]),
    }
    return qp.TransverseFieldIsing(4, edges), params, qp.ObservableCost(qp.Z(1) * qp.Z(2) + 0.5 * qp.X(0))


PROBLEMS = {"classical springs": chain(0.0), "quantum springs": chain(1.0), "quantum spins": spins()}
each_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def two_sided_loss(system: Any, params: Any, nudge: Any, beta: float = BETA) -> float:
    """[e(beta/2) - e(-beta/2)] / beta from two energies: nothing of the code under test."""
    term = nudge.term(qp.equilibrate(system, params).state, None)
    high, low = (float(qp.equilibrate(system.nudged(term, b), params).energy) for b in (beta / 2, -beta / 2))
    return (high - low) / beta


@each_problem
def test_error_is_of_first_order_in_the_compliance(problem):
    """-displacement/(eps beta) is the exact gradient of the two-sided loss, up to O(eps)."""
    exact = qp.ep_gradient(*problem, scheme=qp.centered(BETA / 2), throw=False).grad
    assert norm(exact) > 0.3
    compliances = np.array([0.02, 0.01, 0.005, 0.0025])
    errors = [
        deviation(qp.agnostic_step(*problem, beta=BETA, eps=eps, tolerance=1e-10).grad_estimate, exact)
        for eps in compliances
    ]
    slope = np.polyfit(np.log(compliances), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1), f"errors {errors}"
    assert errors[0] > 1e-4, "an error that is not there has no slope"
    assert errors[-1] < 0.05


@each_problem
def test_every_part_of_the_device_is_at_rest(problem):
    """The springs balance the forces in both phases, with one setting of the control knobs."""
    system, params, nudge = problem
    step = qp.agnostic_step(*problem, beta=BETA, eps=0.02)
    term = nudge.term(step.free.state, None)
    for strength, theta in ((-BETA / 2, params), (BETA / 2, step.params)):
        nudged = system.nudged(term, strength)
        force = nudged.param_grad(theta, qp.equilibrate(nudged, theta).state).mean
        for name in params:
            np.testing.assert_allclose((theta[name] - step.controls[name]) / 0.02 + force[name], 0.0, atol=1e-7)
    assert step.status is qp.Status.OK
    assert step.residual < 1e-6
    assert norm(step.displacement) > 1e-4
    for name in params:
        np.testing.assert_allclose(params[name] + step.displacement[name], step.params[name], rtol=1e-14)
    assert step.two_sided_loss == pytest.approx(two_sided_loss(*problem), abs=1e-9)


@each_problem
def test_the_two_sided_loss_never_increases(problem):
    """Also at steps that are no small ones: the displacement is not the gradient then, and still goes downhill."""
    system, params, nudge = problem
    losses, estimates = [two_sided_loss(*problem)], []
    for _ in range(12):
        step = qp.agnostic_step(system, params, nudge, beta=BETA, eps=0.2, tolerance=1e-6, throw=False)
        assert step.status <= qp.Status.LARGE_NUDGE
        params = step.params
        losses.append(two_sided_loss(system, params, nudge))
        estimates.append(norm(step.grad_estimate))
    assert np.all(np.diff(losses) < 0), losses
    assert losses[-1] < losses[0] - 0.01


def test_a_step_follows_the_gradient_where_overshooting_would_not():
    """A compliance at which the plain iteration overshoots: l has a positive curvature, k = 8."""
    pair = qp.HarmonicNetwork(2, [(0, 1)], trainable=("l",), fixed={"k": 8.0, "kappa": 20.0}, hbar=0.0)
    step = qp.agnostic_step(pair, {"l": [0.3]}, qp.ObservableCost(qp.R(0)), beta=0.05, eps=0.5)
    curvature = 8.0 * 20.0 / (20.0 + 2 * 8.0)  # of e(l): the spring in series with the two to the wall
    assert 0.5 * curvature > 1
    slope = 8.0 / (20.0 + 2 * 8.0)  # d<R_0>/dl
    assert step.grad_estimate["l"][0] == pytest.approx(slope / (1 + 0.5 * curvature), rel=1e-6)


def test_error_signals_and_targets():
    case = BY_NAME["squared error"]
    exact = qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=qp.centered(5e-3), throw=False)
    step = qp.agnostic_step(*case.problem, inputs=case.inputs, beta=1e-2, eps=1e-4, throw=False)
    assert deviation(step.grad_estimate, exact.grad) < 0.01
    assert float(step.loss) == pytest.approx(float(exact.loss), abs=1e-10)


def test_clamped_parameters_stay():
    system, params, nudge = PROBLEMS["quantum spins"]
    step = qp.agnostic_step(system, params, nudge, frozen=("J", "g"), eps=0.01)
    assert norm({name: step.displacement[name] for name in ("J", "g")}) == 0.0
    exact = qp.ep_gradient(*PROBLEMS["quantum spins"], scheme=qp.centered(0.05)).grad
    assert deviation({"h": step.grad_estimate["h"]}, {"h": exact["h"]}) < 0.1


def test_training_without_an_optimizer():
    """A chain learns to hand an input force on, sample by sample."""
    net = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], trainable=("k", "kappa"), input_sites=(0,), fixed={"f": 0.0})
    inputs = np.array([[-1.0], [0.5], [1.0], [-0.5]])
    data = (inputs, 0.3 * inputs)
    cost, start = qp.ExpectationCost([qp.R(2)]), {"k": np.ones(2), "kappa": np.ones(3)}
    seen = []
    history = qp.fit_agnostic(
        net, start, cost, data, beta=4.0, eps=0.3, epochs=6, validation=data, progress=False,
        callback=lambda n, step, params: seen.append(step),
    )  # fmt: skip
    assert len(seen) == history.loss.size == 24
    assert history.validation_loss[-1] < 1e-4 < 1e-2 < history.validation_loss[0]
    assert set(history.status_counts) == {"ok"}
    np.testing.assert_array_equal(history.grad_norm, [norm(step.grad_estimate) for step in seen])
    np.testing.assert_array_equal(history.params["k"], seen[-1].params["k"])
    held = qp.fit_agnostic(net, start, cost, data, beta=4.0, eps=0.3, epochs=1, progress=False, frozen=("kappa",))
    np.testing.assert_array_equal(held.params["kappa"], start["kappa"])
    assert not np.any(held.params["k"] == start["k"])


def test_it_prints_and_keeps(tmp_path):
    step = qp.agnostic_step(*PROBLEMS["quantum spins"])
    for part in ("AgnosticStep", "loss", "iterations", "beta/2*||C||/gap", "displacement", "J[0]", "g[3]"):
        assert part in repr(step)
    loaded = qp.load(qp.save(tmp_path / "step", step))
    assert repr(loaded) == repr(step)


# --- what is refused ----------------------------------------------------------------------------------------------------


def test_too_soft_springs_are_reported():
    problem = PROBLEMS["quantum spins"]
    with pytest.raises(qp.EquilibriumError, match=r"found no rest.*Use a smaller eps"):
        qp.agnostic_step(*problem, eps=3.0)
    lost = qp.agnostic_step(*problem, eps=3.0, throw=False)
    assert lost.status is qp.Status.UNCONVERGED
    with pytest.raises(ValueError, match="At eps=30 the parameters ran to where no equilibrium is"):
        qp.agnostic_step(*PROBLEMS["quantum springs"], eps=30.0)
    with pytest.raises(qp.EquilibriumError, match="found no rest"):
        qp.fit_agnostic(*problem, eps=3.0, epochs=1, progress=False)


def test_large_nudges_are_reported():
    problem = PROBLEMS["quantum spins"]
    with pytest.warns(qp.NudgeWarning, match=r"beta/2\*\|\|C\|\|/gap"):
        qp.agnostic_step(*problem, beta=0.5, eps=0.01)
    with pytest.raises(qp.EquilibriumError, match="nudge too large"):
        qp.agnostic_step(*problem, beta=1.5, eps=0.001)
    with pytest.raises(qp.EquilibriumError, match="branch jump"):
        qp.agnostic_step(*problem, beta=8.0, eps=0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "`beta` must be positive, but is 0.0"),
        ({"beta": -0.1}, "`beta` must be positive"),
        ({"beta": np.nan}, "`beta` must be finite"),
        ({"eps": 0.0}, "`eps` must be positive"),
        ({"tolerance": 0.0}, "`tolerance` must be positive"),
        ({"max_iterations": 0}, "must be a positive integer"),
        ({"frozen": ("K",)}, "`frozen` must have names among"),
        ({"target": 1.0}, "`target` must be None"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        qp.agnostic_step(*PROBLEMS["quantum spins"], **options)


def test_batches_are_refused():
    case = BY_NAME["input sites, batch"]
    with pytest.raises(ValueError, match="must be one sample, but has a batch axis of length 4"):
        qp.agnostic_step(*case.problem, inputs=case.inputs)
    with pytest.raises(TypeError, match="must be a qeqprop nudge"):
        qp.agnostic_step(case.system, case.params, qp.Z(0))
