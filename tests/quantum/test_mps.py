"""Gradients by matrix product states against exact diagonalisation, free fermions and finite differences."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import MatrixProductGroundState, xxz
from qeqprop.quantum.spins import AbstractSpinSystem

from ..measures import deviation, norm
from ..oracle import name_of
from ..registry import CASES
from .chains import chain, lattice, uniform
from .mps_cases import SOLVER, random_params

SLOW = ("input sites, batch", "phase sensor batch")
SPIN_CASES = [
    case
    for case in CASES
    if isinstance(case.system, AbstractSpinSystem) and case.system.n_sites >= 3 and case.name not in SLOW
]


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SPIN_CASES, ids=name_of)
def test_registry(case):
    out = qp.ep_gradient(*case.problem, solver=SOLVER, inputs=case.inputs)
    assert out.status is qp.Status.OK
    assert float(out.loss) == pytest.approx(case.exact.loss, abs=1e-11)
    assert float(out.free.gap) == pytest.approx(case.exact.gaps[-1], rel=1e-6)
    assert deviation(out.grad, case.exact.grad) < 1e-7
    error = norm({name: value - case.exact.grad[name] for name, value in out.grad.items()})
    assert error <= 3 * norm(out.truncation) + out.residual * np.sqrt(sum(g.size for g in out.grad.values()))


def test_chain_equals_free_fermions():
    network = chain(20)
    params = random_params(network, seed=1, h=0.0, g=1.0)
    cost = qp.ObservableCost(qp.X(9) - 0.5 * qp.Z(3) * qp.Z(4))
    out = qp.ep_gradient(network, params, cost, solver=MatrixProductGroundState(gap_bond=8))
    exact = qp.linear_response(network, params, cost, solver=qp.FreeFermions())
    assert out.status is qp.Status.OK
    assert min(norm({k: exact.grad[k]}) for k in ("J", "g")) > 0.1
    for name in ("J", "g"):
        np.testing.assert_allclose(out.grad[name], exact.grad[name], atol=1e-8)


def test_chain_with_fields_equals_exact_diagonalisation():
    network = chain(12)
    params = random_params(network, seed=2, h=0.3, g=0.9)
    cost = qp.ExpectationCost([qp.Z(3), qp.X(8), qp.Z(0) * qp.Z(11)])
    target = [0.2, -0.4, 0.1]
    out = qp.ep_gradient(network, params, cost, target, solver=SOLVER)
    exact = qp.linear_response(network, params, cost, target)
    assert norm(exact.grad) > 0.1
    assert deviation(out.grad, exact.grad) < 1e-8


def test_square_lattice_equals_exact_diagonalisation():
    network = lattice(4, 4)
    params = random_params(network, seed=3, h=0.1, g=3.5)
    cost = qp.ObservableCost(qp.Z(8) + 0.5 * qp.Z(3) * qp.Z(4))
    out = qp.ep_gradient(network, params, cost, solver=MatrixProductGroundState(gap_bond=8))
    exact = qp.linear_response(network, params, cost)
    assert norm(exact.grad) > 0.1
    assert deviation(out.grad, exact.grad) < 1e-8


def test_finite_differences_agree():
    """Without a gap the energy per site sets the scale of the nudge."""
    network = chain(6)
    params = random_params(network, seed=4, h=0.2, g=1.1)
    cost = qp.ObservableCost(qp.Z(2) * qp.Z(5))
    solver = MatrixProductGroundState(gap_bond=None)
    check = qp.check_gradient(network, params, cost, solver=solver, components={"h": [3]})
    assert check.agrees
    assert check.ep.free.gap is None
    assert abs(check.ep.grad["h"][3]) > 1e-3
    assert check.deviations["finite differences"] < 1e-7


def test_the_order_of_sites_does_not_matter():
    network = chain(6)
    params = random_params(network, seed=5, h=0.2, g=1.0)
    cost = qp.ObservableCost(qp.Z(2) - qp.Y(4) * qp.Y(5))
    order = [3, 0, 1, 2, 5, 4]
    numbered = qp.ep_gradient(network, params, cost, solver=SOLVER)
    shuffled = qp.ep_gradient(network, params, cost, solver=MatrixProductGroundState(order=order))
    assert shuffled.free.state.order == tuple(order)
    assert (numbered.free.stats["order"], shuffled.free.stats["order"]) == ("as numbered", "given")
    assert deviation(shuffled.grad, numbered.grad) < 1e-8


def test_truncated_states_are_wrong_in_second_order():
    """Forces err like the variance, not like its root: `residual` bounds them."""
    network = chain(12)
    params = random_params(network, seed=6, h=0.05, g=1.0)
    exact = qp.equilibrate(network, params)
    force = network.param_grad(params, exact.state).mean
    for tolerance in (1e-4, 1e-6):
        rough = qp.equilibrate(network, params, solver=MatrixProductGroundState(tolerance=tolerance, gap_bond=8))
        error = max(np.abs(value - force[k]).max() for k, value in network.param_grad(params, rough.state).mean.items())
        distance = np.sqrt(rough.stats["energy_variance"])
        assert 0.01 * tolerance < distance / abs(float(rough.energy)) <= tolerance
        assert 1e-4 * distance**2 < error <= 2 * float(rough.residual) / float(rough.gap)
        assert error < 1e-2 * distance
        assert -1e-12 < float(rough.energy) - float(exact.energy) <= float(rough.residual)


def test_runs_are_reproducible_and_warm_starts_agree():
    network, params = chain(8), uniform(8, h=0.1, g=1.1)
    once, again = (qp.equilibrate(network, params, solver=SOLVER) for _ in range(2))
    np.testing.assert_array_equal(once.state.tensors[4], again.state.tensors[4])
    nearby = uniform(8, h=0.12, g=1.1)
    warm = qp.equilibrate(network, nearby, solver=SOLVER, init=once)
    cold = qp.equilibrate(network, nearby, solver=SOLVER)
    assert float(warm.energy) == pytest.approx(float(cold.energy), abs=1e-12)
    assert float(warm.gap) == pytest.approx(float(cold.gap), rel=1e-6)


# --- manners ----------------------------------------------------------------------------------------------------------


def test_batches_go_sample_by_sample():
    network = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)], input_sites=[0])
    params, inputs = uniform(4, h=0.1, g=1.0), np.array([[0.5], [-0.8]])
    cost = qp.ObservableCost(qp.Z(3))
    batch = qp.ep_gradient(network, params, cost, solver=SOLVER, inputs=inputs)
    single = [qp.ep_gradient(network, params, cost, solver=SOLVER, inputs=x) for x in inputs]
    np.testing.assert_allclose(batch.grad["h"], np.mean([out.grad["h"] for out in single], axis=0), atol=1e-12)


def test_xxz_ring():
    network = xxz(6, [(i, (i + 1) % 6) for i in range(6)])
    params = {"Jxy": np.ones(6), "Jz": np.full(6, 0.4), "h": np.full(6, 0.05)}
    ground, exact = (qp.equilibrate(network, params, solver=s, throw=False) for s in (SOLVER, None))
    assert float(ground.energy) == pytest.approx(float(exact.energy), abs=1e-11)


def test_costs_that_reach_across_the_chain():
    """Two-site sweeps do not find the states in which both ends of the cost are excited: the start must have them."""
    n, rng = 14, np.random.default_rng(5)
    net = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    params = {"J": 0.1 * rng.uniform(0.5, 1, n - 1), "h": rng.normal(size=n), "g": rng.uniform(0.8, 1.2, n)}
    cost = qp.ObservableCost(qp.Z(0) * qp.Z(n - 1) + qp.X(2) * qp.Z(9) * qp.X(12))
    out = qp.ep_gradient(net, params, cost, solver=MatrixProductGroundState(), scheme=qp.richardson(0.05))
    exact = qp.linear_response(net, params, cost)
    assert out.status is qp.Status.OK  # without them a nudged phase does not converge
    for name, value in exact.grad.items():
        assert np.abs(value).max() > 0.1
        np.testing.assert_allclose(out.grad[name], value, atol=1e-7)
