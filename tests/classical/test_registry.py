"""Every classical system under the one `ep_gradient`: implicit differentiation, finite differences, finite nudges."""

import numpy as np
import pytest

import qeqprop as qp

from ..measures import computed, deviation, norm
from .registry import AGNOSTIC, CASES, KINKED, SMOOTH, name_of


def kinks_crossed(out):
    """Diodes that switched, or units that reached or left a bound, of every nudged state."""
    stats = [phase.stats for _, phase in out.nudged]
    return [known.get("diode_flips", known.get("bound_changes")) for known in stats]


def two_sided_loss(case, params, beta):
    """[e(beta) - e(-beta)] / (2 beta), of a batch its mean, from energies alone."""
    system = case.system if case.inputs is None else case.system.with_inputs(case.inputs)
    solver = case.given["solver"]
    free = solver.solve(system, params)
    term = case.nudge.term(free.state, case.target)
    up, down = (np.mean(solver.solve(system.nudged(term, b), params, init=free).energy.mean) for b in (beta, -beta))
    return (up - down) / (2 * beta)


def slopes_of_two_sided_loss(case, beta, step):
    """Its derivatives by some parameters, by fourth-order differences; the others are NaN."""
    grad = {name: np.full(value.shape, np.nan) for name, value in case.params.items()}
    for name, indices in case.some.items():
        for index in indices:
            losses = []
            for shift in (step, -step, 2 * step, -2 * step):
                moved = {n: value.copy() for n, value in case.params.items()}
                moved[name][index] += shift
                losses.append(two_sided_loss(case, moved, beta))
            grad[name][index] = (8 * (losses[0] - losses[1]) - (losses[2] - losses[3])) / (12 * step)
    return grad


def test_the_registry_is_as_large_as_promised():
    assert len(CASES) >= 9
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(AGNOSTIC) >= 3
    assert len(KINKED) >= 2


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_ep_is_implicit_differentiation_is_finite_differences(case):
    exact = qp.linear_response(*case.problem, **case.given)
    assert exact.status is qp.Status.OK
    assert all(norm({name: grad}) > case.least for name, grad in exact.grad.items())
    known = qp.finite_difference(*case.problem, **case.given, step=case.step, components=case.some)
    assert all(norm(computed({name: grad})) > 1e-3 * case.least for name, grad in known.grad.items())
    assert deviation(known.grad, exact.grad) < 1e-7
    ep = qp.ep_gradient(*case.problem, **case.given, scheme=qp.centered(1e-4))
    assert deviation(ep.grad, exact.grad) < 1e-6
    assert float(ep.loss) == pytest.approx(float(known.loss), rel=1e-9)
    shape = {name: value.shape for name, value in case.params.items()}
    assert {name: value.shape for name, value in ep.grad.items()} == shape


@pytest.mark.parametrize("case", SMOOTH, ids=name_of)
def test_complex_nudges_are_exact_where_they_can_be_followed(case):
    if not case.given["solver"].analytic:
        with pytest.raises(ValueError, match="cannot follow complex nudges"):
            qp.ep_gradient(*case.problem, **case.given, scheme=qp.holomorphic(0.05))
        return
    exact = qp.linear_response(*case.problem, **case.given)
    found = qp.ep_gradient(*case.problem, **case.given, scheme=qp.holomorphic(0.05, n_points=12))
    assert deviation(found.grad, exact.grad) < 1e-10


@pytest.mark.parametrize("case", SMOOTH, ids=name_of)
def test_schemes_have_their_orders(case):
    exact = qp.linear_response(*case.problem, **case.given).grad
    for scheme, order, (low, high) in ((qp.one_sided, 1, (0.9, 1.1)), (qp.centered, 2, (0.3, 60))):
        outs = [qp.ep_gradient(*case.problem, **case.given, scheme=scheme(b)) for b in (4e-3, 2e-3)]
        errors = [deviation(out.grad, exact) for out in outs]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
        true = {name: np.abs(grad - exact[name]) for name, grad in outs[0].grad.items()}
        ratios = np.concatenate(
            [outs[0].truncation[n][e > 20 * outs[0].residual] / e[e > 20 * outs[0].residual] for n, e in true.items()]
        )
        assert np.mean((ratios < low) | (ratios > high)) <= 0.2, f"reported / true = {np.sort(ratios).round(2)}"
        assert low < norm(outs[0].truncation) / norm(true) < 12


@pytest.mark.parametrize("case", KINKED, ids=name_of)
def test_kinked_networks_away_from_their_kinks_and_across(case):
    away = qp.ep_gradient(*case.problem, **case.given, scheme=qp.centered(1e-4))
    assert away.free.stats["kink_distance"] > 1e-3
    assert kinks_crossed(away) == [0, 0]
    across = qp.ep_gradient(*case.problem, **case.given, scheme=qp.centered(case.across), throw=False)
    assert sum(kinks_crossed(across)) > 0
    assert deviation(slopes_of_two_sided_loss(case, case.across, 1e-5), across.grad) < 1e-5
    assert deviation(across.grad, away.grad) > 1e-3  # another function's gradient


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_finite_nudges_are_exact_gradients_of_energy_differences(case):
    ep = qp.ep_gradient(*case.problem, **case.given, scheme=qp.centered(case.beta))
    slopes = slopes_of_two_sided_loss(case, case.beta, 1e-2 if case.across is None else 1e-4)
    assert norm(computed(slopes)) > case.least
    assert deviation(slopes, ep.grad) < 1e-6


@pytest.mark.parametrize("case", AGNOSTIC, ids=name_of)
def test_agnostic_steps_descend_the_two_sided_loss(case):
    beta, errors = 2 * case.beta, []
    ep = qp.ep_gradient(*case.problem, **case.given, scheme=qp.centered(case.beta)).grad
    for eps in (4e-3, 2e-3):
        step = qp.agnostic_step(*case.problem, **case.given, beta=beta, eps=eps, tolerance=1e-10)
        errors.append(deviation(step.grad_estimate, ep))
        assert step.two_sided_loss == pytest.approx(two_sided_loss(case, case.params, case.beta), abs=1e-9)
        assert two_sided_loss(case, step.params, case.beta) < step.two_sided_loss
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)
