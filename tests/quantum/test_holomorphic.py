"""Complex nudges: the eigenvector of a complex symmetric matrix, followed from beta = 0."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import BilinearState, holomorphic

from ..measures import deviation, norm
from ..oracle import Case, name_of, sum_over
from ..registry import BY_NAME, REAL_CASES


def nudged_matrix(case: Case, weights: np.ndarray, strength: complex) -> np.ndarray:
    return case.hamiltonian(case.params, case.inputs) + strength * sum_over(weights, list(case.observables))


SINGLE_CASES = [case for case in REAL_CASES if case.inputs is None]


@pytest.mark.parametrize("case", SINGLE_CASES, ids=name_of)
def test_eigenpair_against_numpy(case):
    """The eigenvalue nearest to the free energy, with the bilinear norm psi^T psi = 1."""
    free = qp.equilibrate(case.system, case.params)
    term = case.nudge.term(free.state, case.target)
    strength = 0.2 * np.exp(0.7j) * case.beta(1.0, free.state)
    found = qp.equilibrate(case.system.nudged(term, strength), case.params, init=free)
    matrix = nudged_matrix(case, term.weights, strength)
    values = np.linalg.eigvals(matrix)
    nearest = values[np.argmin(np.abs(values - complex(found.energy.mean)))]
    psi = found.state.amplitudes
    assert isinstance(found.state, BilinearState)
    assert complex(found.energy.mean) == pytest.approx(nearest, abs=1e-9)
    assert values[np.argmin(values.real)] == pytest.approx(nearest, abs=1e-9), "not on the branch of the ground state"
    assert psi @ psi == pytest.approx(1.0, abs=1e-12)
    assert np.linalg.norm(matrix @ psi - nearest * psi) < 1e-8
    assert abs(complex(found.energy.mean).imag) > 1e-4


def test_conjugate_nudges_have_conjugate_forces():
    case = BY_NAME["chain with fields"]
    free = qp.equilibrate(case.system, case.params)
    term = case.nudge.term(free.state, case.target)
    up, down = (qp.equilibrate(case.system.nudged(term, b), case.params, init=free) for b in (0.1 + 0.2j, 0.1 - 0.2j))
    one, two = (case.system.param_grad(case.params, phase.state).mean for phase in (up, down))
    assert norm({name: value.imag for name, value in one.items()}) > 1e-3
    assert deviation({name: value.conj() for name, value in one.items()}, two) < 1e-9


def test_matrix_free_branch_is_the_dense_one(monkeypatch):
    """The complex symmetric conjugate gradients instead of a bordered solve."""
    case = BY_NAME["all-to-all random"]
    scheme = qp.holomorphic(0.2)
    dense = qp.ep_gradient(*case.problem, scheme=scheme, throw=False)
    monkeypatch.setattr(holomorphic, "DENSE_BITS", 0)
    free = qp.ep_gradient(*case.problem, scheme=scheme, throw=False)
    assert deviation(free.grad, dense.grad) < 1e-8
    assert deviation(free.grad, case.exact.grad) < 1e-4


def test_batches_are_followed_sample_by_sample():
    case = BY_NAME["input sites, batch"]
    batch = qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=qp.holomorphic(0.05))
    assert batch.nudged[1][1].state.amplitudes.shape == (4, 32)
    singles = [
        qp.ep_gradient(*case.problem[:3], y, inputs=x, scheme=qp.holomorphic(0.05)).grad
        for x, y in zip(case.inputs, case.target, strict=True)
    ]
    mean = {name: np.mean([grad[name] for grad in singles], axis=0) for name in batch.grad}
    assert deviation(batch.grad, mean) < 1e-8


def test_beyond_the_exceptional_point():
    """One spin, H = -X + beta Z: exceptional points at +-i. Inside them the formula converges."""
    spin, params, cost = qp.TransverseFieldIsing(1, []), {"J": [], "h": [0.0], "g": [1.0]}, qp.ObservableCost(qp.Z(0))
    free = qp.equilibrate(spin, params)
    term = cost.term(free.state, None)
    inside = qp.equilibrate(spin.nudged(term, 0.6j), params, init=free)
    assert complex(inside.energy.mean) == pytest.approx(-0.8, abs=1e-9)  # -sqrt(1 + beta^2)
    out = qp.ep_gradient(spin, params, cost, scheme=qp.holomorphic(0.6, n_points=24), throw=False)
    assert out.grad["h"][0] == pytest.approx(1.0, abs=1e-5)
    at = qp.equilibrate(spin.nudged(term, 1j), params, init=free, throw=False)
    assert at.status.failed, "there is one eigenvector at the exceptional point, of bilinear norm zero"


def test_complex_nudges_need_a_branch_and_real_matrices():
    case = BY_NAME["two-spin TFIM"]
    free = qp.equilibrate(case.system, case.params)
    term = case.nudge.term(free.state, None)
    with pytest.raises(ValueError, match="needs the free equilibrium as `init`"):
        qp.equilibrate(case.system.nudged(term, 0.1j), case.params)
    y = BY_NAME["complex, with Y"]
    with pytest.raises(ValueError, match="even number of Y's"):
        qp.ep_gradient(*y.problem, scheme=qp.holomorphic(0.05))
