"""Where gradients go wrong in silence: each trap, and the error, status or warning that the user sees."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import heisenberg, xxz

from ..measures import deviation, norm
from ..registry import BY_NAME
from .chains import QUBIT, Z0, chain, uniform

# --- vacuous zeros ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "params", "cost"),
    [
        (chain(4), uniform(4, h=0.1), qp.Y(0)),
        (xxz(3, [(0, 1)]), {"Jxy": [0.5], "Jz": [0.2], "h": [1.0, 0.7, 0.4]}, qp.Z(0) + qp.Z(1) + qp.Z(2)),
        (chain(6), uniform(6, h=0.2), 3.0 * qp.identity()),
    ],
    ids=["time reversal", "conserved", "constant"],
)
@pytest.mark.parametrize("scheme", [None, qp.centered(1e-3)], ids=["default", "centered"])
def test_vanishing_gradient_never_agrees(system, params, cost, scheme):
    """Every estimator finds zeros where a symmetry makes them."""
    check = qp.check_gradient(system, params, qp.ObservableCost(cost), scheme=scheme)
    assert norm(check.ep.grad) < 1e-6
    assert check.vanishes
    assert not check.agrees
    assert "VANISHES WITHIN ITS ERRORS" in repr(check)
    assert "AGREES" not in repr(check)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_cost_that_has_the_ground_state_as_eigenvector(n):
    """The energy itself as a cost: the response is zero and found, not an unconverged equation."""
    params = uniform(n, h=0.2)
    energy = sum((-0.2 * qp.Z(i) - qp.X(i) for i in range(n)), qp.PauliSum())
    energy = energy - sum((qp.Z(i) * qp.Z(i + 1) for i in range(n - 1)), qp.PauliSum())
    out = qp.linear_response(chain(n), params, qp.ObservableCost(energy + 5.0))
    assert float(out.loss) == pytest.approx(float(out.free.energy) + 5.0, abs=1e-9)
    assert norm(out.grad) < 1e-8


def test_parity_hides_couplings_not_fields():
    """Without a longitudinal field d<Z>/dJ = 0 by parity, d<Z>/dh is not."""
    check = qp.check_gradient(chain(4), uniform(4), Z0)
    assert norm({"J": check.ep.grad["J"], "g": check.ep.grad["g"]}) < 1e-8
    assert norm({"h": check.ep.grad["h"]}) > 1
    assert check.agrees


def test_check_gradient_tells_a_wrong_gradient():
    """A nudge far too large for its declared formula, and a stencil that reports no error: disagreement."""
    case = BY_NAME["two-spin TFIM"]
    bare = qp.Stencil("bare", strengths=(0.05, 0.0), weights=(20.0, -20.0), order=1)
    check = qp.check_gradient(*case.problem, scheme=bare)
    assert not check.agrees
    assert "DISAGREES" in repr(check)
    assert set(check.references) == {"linear response", "finite differences"}
    assert qp.check_gradient(*case.problem).agrees


def test_check_gradient_on_some_components():
    case = BY_NAME["all-to-all random"]
    check = qp.check_gradient(*case.problem, components={"J": [0, 14], "g": [(3,)]})
    differences = check.references["finite differences"].grad
    assert check.agrees
    assert np.flatnonzero(~np.isnan(differences["J"])).tolist() == [0, 14]
    assert np.all(np.isnan(differences["h"]))
    with pytest.raises(ValueError, match=r"must have names among \['J', 'h', 'g'\], but also has \['K'\]"):
        qp.check_gradient(*case.problem, components={"K": [0]})


# --- small gap, large nudge, degeneracy -------------------------------------------------------------------------------


def test_small_gap():
    """8 spins at g = 0.5: the gap is 5.9e-3, the response is hundreds, and beta = 0.1 sees a few per cent of it."""
    network, params, cost = chain(8), uniform(8, g=0.5), qp.ObservableCost(qp.Z(3))
    response = qp.linear_response(network, params, cost)
    assert float(response.free.gap) == pytest.approx(5.86e-3, rel=1e-2)
    step = 1e-5
    moved = {sign: {**params, "h": params["h"] + sign * step * np.eye(8)[3]} for sign in (1, -1)}
    expect = {sign: float(qp.equilibrate(network, p).state.expect(qp.Z(3))) for sign, p in moved.items()}
    assert response.grad["h"][3] == pytest.approx((expect[1] - expect[-1]) / (2 * step), rel=1e-3)
    assert response.grad["h"][3] > 250
    with pytest.raises(qp.EquilibriumError, match=r"beta\*\|\|C\|\|/gap = 17.*above 0.5.*Use a smaller beta") as error:
        qp.ep_gradient(network, params, cost, scheme=qp.centered(0.1))
    assert error.value.status is qp.Status.NUDGE_TOO_LARGE
    out = qp.ep_gradient(network, params, cost, scheme=qp.centered(0.1), throw=False)
    assert out.status is qp.Status.NUDGE_TOO_LARGE
    assert out.nudge_ratio == pytest.approx(0.1 / float(response.free.gap), rel=1e-6)
    assert deviation(out.grad, response.grad) > 0.9, "this nudge is too large to see the response"
    default = qp.ep_gradient(network, params, cost)
    assert default.status is qp.Status.OK
    assert deviation(default.grad, response.grad) < 1e-5


def test_warning_band():
    network, params = chain(4), uniform(4, h=0.1)
    gap = float(qp.equilibrate(network, params).gap)
    with pytest.warns(qp.NudgeWarning, match=r"beta\*\|\|C\|\|/gap = 0.3.*linear_response"):
        out = qp.ep_gradient(network, params, Z0, scheme=qp.centered(0.3 * gap))
    assert out.status is qp.Status.LARGE_NUDGE
    assert not out.status.failed
    assert qp.ep_gradient(network, params, Z0, scheme=qp.centered(0.09 * gap)).status is qp.Status.OK


def test_identity_part_of_the_cost_does_not_count_as_a_nudge():
    """(Z - y)^2 = 1 + y^2 - 2 y Z: only the Z moves the state."""
    network, params = chain(3), uniform(3, h=0.3)
    plain, shifted = (
        qp.ep_gradient(network, params, qp.ObservableCost(cost), scheme=qp.centered(0.02))
        for cost in (qp.Z(0), qp.Z(0) + 100.0)
    )
    assert shifted.nudge_ratio == pytest.approx(plain.nudge_ratio)
    assert deviation(shifted.grad, plain.grad) < 1e-9


@pytest.mark.parametrize(
    ("system", "params"),
    [
        (chain(4), uniform(4, g=1e-3)),
        (chain(8), uniform(8, g=1e-2)),
        (chain(4), uniform(4, g=0.0)),
        (heisenberg(3, [(0, 1), (1, 2)]), {"J": [1.0, 0.7]}),
        (heisenberg(5, [(i, i + 1) for i in range(4)]), {"J": [1.0, 0.7, 0.9, 1.2]}),
        (qp.SpinNetwork(3, {"a": [qp.X(0) * qp.Y(1), qp.Y(1) * qp.Z(2), qp.Z(0) * qp.X(2)]}), {"a": [1.0, 0.7, 0.5]}),
        (chain(6), uniform(6, 0.0, 0.0, 0.0)),
        (QUBIT, {"a": [0.0, 0.0]}),
    ],
    ids=["two-fold", "two-fold 8", "classical", "Kramers", "Kramers 5", "Kramers complex", "zero", "matrix"],
)  # fmt: skip
def test_degenerate_ground_state_is_refused(system, params):
    with pytest.raises(qp.EquilibriumError, match="symmetry-breaking field") as error:
        qp.equilibrate(system, params)
    assert error.value.status is qp.Status.DEGENERATE
    assert qp.equilibrate(system, params, throw=False).status is qp.Status.DEGENERATE
    cost = Z0 if system is not QUBIT else qp.ObservableCost(qp.MatrixOperator(np.diag([1.0, -1.0])))
    for scheme in (None, qp.LinearResponse(), qp.centered(1e-3)):
        with pytest.raises(qp.EquilibriumError, match="degenerate"):
            qp.ep_gradient(system, params, cost, scheme=scheme)


def test_a_small_field_lifts_the_degeneracy():
    assert qp.equilibrate(chain(4), uniform(4, g=1e-3, h=0.05)).status is qp.Status.OK


def test_one_degenerate_sample_is_the_status_of_the_batch():
    network = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
    params = uniform(3, g=1e-4)
    assert qp.equilibrate(network, params, inputs=[[0.5], [0.0], [0.4]], throw=False).status is qp.Status.DEGENERATE
    assert qp.equilibrate(network, params, inputs=[[0.5], [0.3], [0.4]]).status is qp.Status.OK


def test_level_crossing_between_the_phases_is_seen():
    """Z is conserved: at beta > h - J the nudged ground state is another one, with zero overlap."""
    network = qp.SpinNetwork(2, {"h": [-qp.Z(0), -qp.Z(1)]})
    out = qp.ep_gradient(network, {"h": [0.5, 1.0]}, Z0, scheme=qp.one_sided(2.0), throw=False)
    assert out.status >= qp.Status.NUDGE_TOO_LARGE
    jumped = qp.equilibrate(network, {"h": [0.5, 1.0]})
    term = Z0.term(jumped.state, None)
    nudged = qp.equilibrate(network.nudged(term, 2.0), {"h": [0.5, 1.0]}, init=jumped, throw=False)
    assert nudged.status is qp.Status.BRANCH_JUMP


# --- unconverged, not finite ------------------------------------------------------------------------------------------


def test_unconverged_solve_is_refused():
    network, params, lazy = chain(8), uniform(8, h=0.1), qp.ExactDiagonalization(max_iterations=1)
    with pytest.raises(qp.EquilibriumError, match="Raise `max_iterations`") as error:
        qp.ep_gradient(network, params, Z0, solver=lazy)
    assert error.value.status is qp.Status.UNCONVERGED
    with pytest.raises(qp.EquilibriumError, match="unconverged: residual = "):
        qp.equilibrate(network, params, solver=lazy)
    for scheme in (None, qp.LinearResponse(), qp.centered(1e-3)):
        out = qp.ep_gradient(network, params, Z0, solver=lazy, scheme=scheme, throw=False)
        assert out.status is qp.Status.UNCONVERGED
        assert out.residual > 0.1
    check = qp.equilibrate(network, params, solver=lazy, throw=False)
    assert float(check.residual) > 0.1
    assert np.all(np.isfinite(check.state.amplitudes))


def test_huge_numbers_are_not_finite():
    with pytest.raises(qp.EquilibriumError, match="Check the scale of the parameters") as error:
        qp.equilibrate(chain(6), uniform(6, 1e200, 1e200, 1e200))
    assert error.value.status is qp.Status.NOT_FINITE


@pytest.mark.parametrize("n", [3, 6])
def test_large_units_converge_to_rounding(n):
    """A residual of 1e-10 cannot be had at couplings of 1e6: rounding is the bound, not the tolerance."""
    plain, scaled = (qp.linear_response(chain(n), uniform(n, c, 0.1 * c, c), Z0) for c in (1.0, 1e6))
    assert scaled.status is qp.Status.OK
    assert deviation({k: 1e6 * v for k, v in scaled.grad.items()}, plain.grad) < 1e-7


# --- what an observable of a square is --------------------------------------------------------------------------------


def test_square_of_the_operator_is_not_square_of_the_expectation():
    """C = (Z - y)^2 is linear in Z, because Z^2 = 1; (<Z> - y)^2 is not. Both exist and differ by tens of per cent."""
    network, params, y = chain(3), uniform(3, h=0.2), 0.9
    linear = qp.linear_response(network, params, qp.ObservableCost((qp.Z(0) - y) ** 2))
    square = qp.linear_response(network, params, qp.ExpectationCost([qp.Z(0)]), [y])
    z = qp.linear_response(network, params, Z0)
    assert deviation(linear.grad, {n: -2 * y * v for n, v in z.grad.items()}) < 1e-9
    assert deviation(square.grad, {n: 2 * (float(z.loss) - y) * v for n, v in z.grad.items()}) < 1e-9
    assert deviation(linear.grad, square.grad) > 0.1
