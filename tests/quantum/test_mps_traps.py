"""Where a matrix product state goes wrong in silence, and what is refused."""

import logging
import sys

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import MatrixProductGroundState, MatrixProductState, heisenberg

from ..measures import deviation, norm
from .chains import chain, uniform
from .mps_cases import SOLVER

# --- traps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 12])
def test_ferromagnet_is_degenerate(n):
    """Each half of the broken symmetry and each superposition is a perfect state: only the search for another one tells.

    Of 10 spins it is a half that is found, of 12 a superposition.
    """
    params = uniform(n, h=0.0, g=0.1 if n == 10 else 0.2)
    ground = qp.equilibrate(chain(n), params, solver=SOLVER, throw=False)
    assert ground.status is qp.Status.DEGENERATE
    assert np.sqrt(ground.stats["energy_variance"]) < 1e-7
    assert (abs(float(ground.state.expect(qp.Z(3)))) > 0.9) == (n == 10)
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.ep_gradient(chain(n), params, qp.ObservableCost(qp.Z(5)), solver=SOLVER)
    assert qp.equilibrate(chain(n), params, solver=MatrixProductGroundState(gap_bond=None)).gap is None


@pytest.mark.parametrize("h", [0.01, -0.01])
def test_false_vacuum_is_left(h):
    """The best product state may have the wrong sign; it is stable against everything that two sites can do."""
    network, params = chain(12), uniform(12, h=h, g=0.3)
    ground, exact = qp.equilibrate(network, params, solver=SOLVER), qp.equilibrate(network, params)
    assert float(ground.energy) == pytest.approx(float(exact.energy), abs=1e-12)
    assert float(ground.gap) == pytest.approx(float(exact.gap), rel=1e-6)
    assert np.sign(float(ground.state.expect(qp.Z(3)))) == np.sign(h)


def test_metastable_state_is_the_second():
    """Turning all spins costs less than turning one, but is far from it."""
    n, h = 20, -0.01
    ground = qp.equilibrate(chain(n), uniform(n, h=h, g=0.1), solver=SOLVER)
    assert float(ground.gap) == pytest.approx(2 * n * abs(h), rel=0.01)


def test_rugged_landscapes():
    n = 10
    network = qp.TransverseFieldIsing(n, [(i, j) for i in range(n) for j in range(i)])
    for seed in range(3):
        rng = np.random.default_rng(seed)
        params = {"J": rng.normal(size=45) / np.sqrt(n), "h": 0.1 * rng.normal(size=n), "g": np.full(n, 0.15)}
        ground, exact = qp.equilibrate(network, params, solver=SOLVER), qp.equilibrate(network, params)
        assert float(ground.energy) == pytest.approx(float(exact.energy), abs=1e-12)
        assert float(ground.gap) >= float(exact.gap) * (1 - 1e-6)  # a bound from above


def test_level_crossing_is_a_branch_jump():
    """The nudge outweighs the field that chose the state."""
    network, params = chain(6), uniform(6, h=0.02, g=0.2)
    cost = qp.ObservableCost(sum((qp.Z(i) for i in range(6)), qp.PauliSum()))
    out = qp.ep_gradient(network, params, cost, solver=SOLVER, scheme=qp.one_sided(2.0), throw=False)
    assert max(phase.status for _, phase in out.nudged) is qp.Status.BRANCH_JUMP
    assert out.status.failed


def test_too_small_a_bond_is_unconverged():
    solver = MatrixProductGroundState(max_bond=3, gap_bond=None)
    params = uniform(10, h=0.0, g=1.0)
    ground = qp.equilibrate(chain(10), params, solver=solver, throw=False)
    assert ground.status is qp.Status.UNCONVERGED
    assert ground.stats["bond_dimension"] == 3
    assert ground.stats["truncation_error"] > 1e-8
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.ep_gradient(chain(10), params, qp.ObservableCost(qp.X(4)), solver=solver)


def test_classical_spins_and_no_hamiltonian():
    network = chain(6)
    up = qp.equilibrate(network, uniform(6, h=0.1, g=0.0), solver=SOLVER)
    assert float(up.energy) == pytest.approx(-5 - 0.6, abs=1e-12)
    nothing = {"J": np.zeros(5), "h": np.zeros(6), "g": np.zeros(6)}
    assert qp.equilibrate(network, nothing, solver=SOLVER, throw=False).status is qp.Status.DEGENERATE


def test_complex_and_isotropic_systems():
    edges = [(i, i + 1) for i in range(7)]
    network = heisenberg(8, edges)
    ground = qp.equilibrate(network, {"J": np.ones(7)}, solver=SOLVER)
    assert ground.state.tensors[0].dtype == float  # Y Y is real
    assert float(ground.energy) == pytest.approx(float(qp.equilibrate(network, {"J": np.ones(7)}).energy), abs=1e-12)
    with_y = qp.SpinNetwork(6, {"a": [qp.Y(i) for i in range(6)], "b": [qp.X(i) * qp.X(i + 1) for i in range(5)]})
    params = {"a": np.linspace(0.5, 1.0, 6), "b": np.full(5, 0.7)}
    out = qp.ep_gradient(with_y, params, qp.ObservableCost(qp.Y(2)), solver=SOLVER)
    assert np.iscomplexobj(out.free.state.tensors[0])
    exact = qp.linear_response(with_y, params, qp.ObservableCost(qp.Y(2)))
    assert norm(exact.grad) > 0.1
    assert deviation(out.grad, exact.grad) < 1e-8


# --- manners ----------------------------------------------------------------------------------------------------------


def test_silence(capfd):
    level = logging.getLogger("tenpy").level
    qp.equilibrate(chain(4), uniform(4, h=0.1, g=1.0), solver=SOLVER)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("tenpy").level == level


def test_refusals():
    params = uniform(4, h=0.1, g=1.0)
    with pytest.raises(ValueError, match="at least 3 spins, but has 2"):
        qp.equilibrate(chain(2), uniform(2, h=0.1, g=1.0), solver=SOLVER)
    with pytest.raises(ValueError, match="`order` must be a permutation"):
        qp.equilibrate(chain(4), params, solver=MatrixProductGroundState(order=[0, 1, 2]))
    with pytest.raises(ValueError, match="no linear response"):
        qp.linear_response(chain(4), params, qp.ObservableCost(qp.Z(0)), solver=SOLVER)
    with pytest.raises(ValueError, match="cannot follow complex nudges"):
        qp.ep_gradient(chain(4), params, qp.ObservableCost(qp.Z(0)), solver=SOLVER, scheme=qp.holomorphic(0.1))
    with pytest.raises(TypeError, match="must hold a MatrixProductState of 4 spins"):
        qp.equilibrate(chain(4), params, solver=SOLVER, init=qp.equilibrate(chain(4), params))
    with pytest.raises(ValueError, match="`tolerance` must lie between"):
        MatrixProductGroundState(tolerance=0.0)
    with pytest.raises(ValueError, match="`max_bond`"):
        MatrixProductGroundState(max_bond=0)
    with pytest.raises(MemoryError, match="Lower `max_bond`"):
        qp.equilibrate(chain(60), uniform(60, h=0.1, g=1.0), solver=MatrixProductGroundState(max_bond=10**6))
    state = MatrixProductState.product([np.array([1.0, 0.0])] * 3)
    with pytest.raises(ValueError, match="acts on site 3"):
        state.expect(qp.Z(3))
    with pytest.raises(TypeError, match="measured by Pauli sums"):
        state.expect(qp.MatrixOperator(np.eye(8)))
    with pytest.raises(ValueError, match="same order"):
        state.overlap(MatrixProductState.product([np.array([1.0, 0.0])] * 3, [2, 1, 0]))


def test_missing_tenpy_says_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenpy", None)
    with pytest.raises(ImportError, match=r'pip install "qeqprop\[mps\]"'):
        qp.equilibrate(chain(4), uniform(4, h=0.1, g=1.0), solver=SOLVER)
