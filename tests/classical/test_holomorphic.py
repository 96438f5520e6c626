"""Complex nudges of classical potentials: exact at finite size, on the branch of the free state, refused where senseless."""

import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import Box, Clamp, EnergySystem, FlowNetwork, HolomorphicMinimizer, StateCost

from ..measures import deviation, norm
from .registry import MOVING, name_of

SOLVER = HolomorphicMinimizer()


@pytest.mark.parametrize("case", MOVING, ids=name_of)
def test_the_gradient_is_exact_at_finite_nudges(case):
    exact = qp.linear_response(*case.problem, inputs=case.inputs)
    radius = 0.1
    found = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=SOLVER, scheme=qp.holomorphic(radius, n_points=16))
    assert found.status is qp.Status.OK
    assert deviation(found.grad, exact.grad) < 1e-10
    assert all(norm({name: grad}) > 1e-2 for name, grad in found.grad.items())
    real = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=SOLVER, scheme=qp.centered(radius)).grad
    assert deviation(real, exact.grad) > 1e-5
    claimed = norm(found.truncation) / norm(exact.grad)
    assert deviation(found.grad, exact.grad) < 10 * max(claimed, 1e-12)


def test_the_error_is_geometric_in_the_number_of_points():
    case = next(case for case in MOVING if case.name == "Hopfield")
    exact = qp.linear_response(*case.problem, inputs=case.inputs).grad
    errors = [
        deviation(
            qp.ep_gradient(
                *case.problem, inputs=case.inputs, solver=SOLVER, scheme=qp.holomorphic(0.3, n_points=n), throw=False
            ).grad,
            exact,
        )
        for n in (4, 8, 12)
    ]
    ratios = np.array(errors[1:]) / errors[:-1]
    assert errors[0] > 1e-5
    assert ratios.max() < 0.03
    assert np.log(ratios[1]) == pytest.approx(np.log(ratios[0]), rel=0.5)


def cubic(p, s, x):
    """Minimum at s = sqrt(a); under the nudge b s at sqrt(a - b), with a branch point at b = a."""
    return (s**3).sum() / 3 - p["a"] * s.sum()


WELL = EnergySystem(cubic, (1,), {"a": ()}, start=[1.0])
PULL = StateCost(lambda s, y: s.sum())


def nudged(beta, a=1.0):
    free = SOLVER.solve(WELL, {"a": a})
    return SOLVER.solve(WELL.nudged(PULL.term(free.state, None), beta), {"a": a}, init=free)


@pytest.mark.parametrize("beta", [0.3j, -0.6 + 0.2j, 0.9 + 0.3j, 1.5 + 0.2j, 1.5 - 0.2j, 4.0 + 3.0j])
def test_the_state_is_the_continuation_of_the_free_one(beta):
    """In closed form, also far beyond the branch point, above and below it."""
    phase = nudged(beta)
    assert phase.status is qp.Status.OK
    assert phase.state.position[0] == pytest.approx(np.sqrt(1 - beta), abs=1e-13)
    assert complex(phase.energy.mean) == pytest.approx(-2 / 3 * (1 - beta) ** 1.5, abs=1e-12)
    # without a start it finds the same one
    term = PULL.term(None, None)
    again = SOLVER.solve(WELL.nudged(term, beta), {"a": 1.0})
    np.testing.assert_allclose(again.state.position, phase.state.position, atol=1e-13)


def test_a_way_through_the_branch_point_is_not_taken():
    assert nudged(1.5 + 1e-9j).status is qp.Status.BRANCH_JUMP
    wide = qp.ep_gradient(WELL, {"a": 1.0}, PULL, solver=SOLVER, scheme=qp.holomorphic(0.9, n_points=32)).grad["a"]
    assert wide == pytest.approx(0.5, abs=0.9**32)


def test_real_nudges_stay_under_complex_ones():
    free = SOLVER.solve(WELL, {"a": 1.0})
    shifted = WELL.nudged(PULL.term(free.state, None), 0.2)
    phase = SOLVER.solve(shifted.nudged(PULL.term(free.state, None), 0.3j), {"a": 1.0})
    assert phase.state.position[0] == pytest.approx(np.sqrt(0.8 - 0.3j), abs=1e-13)


def test_batches_go_sample_by_sample():
    case = next(case for case in MOVING if case.name == "Hopfield")
    inputs, targets = np.stack([case.inputs, 0.9 * case.inputs]), np.stack([case.target, case.target])
    given = {"solver": SOLVER, "scheme": qp.holomorphic(0.05)}
    both = qp.ep_gradient(*case.problem[:3], targets, inputs=inputs, **given).grad
    single = [
        qp.ep_gradient(*case.problem[:3], y, inputs=x, **given).grad for x, y in zip(inputs, targets, strict=True)
    ]
    assert deviation(both, {name: (single[0][name] + single[1][name]) / 2 for name in both}) < 1e-13


def kinked(p, s, x):
    return (jnp.abs(s) ** 3).sum() + (s**2).sum() / 2 - p["a"] * s.sum()


BOXED = EnergySystem(cubic, (1,), {"a": ()}, domain=Box(0.0, 2.0), start=[1.5])
FLOW = FlowNetwork(3, [(0, 1), (1, 2)], driven=[0], grounded=[2])


@pytest.mark.parametrize(
    ("system", "params", "nudge", "error", "message"),
    [
        (EnergySystem(kinked, (1,), {"a": ()}), {"a": 1.0}, PULL, ValueError, "must be analytic functions"),
        (BOXED, {"a": 1.0}, PULL, ValueError, "bounds of its box"),
        (WELL, {"a": 1.0}, StateCost(lambda s, y: jnp.abs(s).sum() ** 2), ValueError, "must be analytic functions"),
        (FLOW, {"k": [1.0, 1.0]}, PULL, TypeError, "potentials written in JAX, not FlowNetwork"),
    ],
    ids=["potential", "box", "cost", "no potential"],
)
def test_what_has_no_continuation_is_refused(system, params, nudge, error, message):
    with pytest.raises(error, match=message):
        qp.ep_gradient(system, params, nudge, solver=SOLVER, scheme=qp.holomorphic(0.05))


def test_a_clamp_holds_no_complex_values():
    with pytest.raises(ValueError, match="cannot be held at complex values"):
        qp.ep_gradient(WELL, {"a": 1.0}, Clamp([0]), [0.5], solver=SOLVER, scheme=qp.holomorphic(0.05))
    with pytest.raises(TypeError, match="must be a Minimizer or None"):
        HolomorphicMinimizer(minimizer=3)


def test_its_gradients_are_saved(tmp_path):
    well = qp.classical.EnergySystem(lambda p, s, x: p["k"] * (s**2).sum() / 2 - s.sum(), (1,), {"k": ()})
    cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2)
    solver = qp.classical.HolomorphicMinimizer(qp.classical.Minimizer(max_iterations=50))
    out = qp.ep_gradient(well, {"k": 2.0}, cost, 1.0, solver=solver, scheme=qp.holomorphic(0.1))
    known = qp.load(qp.save(tmp_path / "out", out))
    assert known.solver == solver
    assert known.grad["k"] == out.grad["k"] == pytest.approx(0.25)  # dL/dk = 2 (1/k - 1) (-1/k^2)
