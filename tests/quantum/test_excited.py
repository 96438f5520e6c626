"""Equilibrium propagation for excited states: EP = finite differences = the sum over states, and no wrong branch."""

import functools
import itertools
from typing import Any

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import eigen_kernels, exact_levels, heisenberg, holomorphic

from ..measures import deviation, norm
from ..oracle import Case, difference_quotient, on, sum_over
from ..registry import BY_NAME, CASES
from ..spin_cases import tfim_matrix


def sum_over_states(case: Case, level: int) -> dict[str, np.ndarray]:
    """2 Re sum_{n != k} <k|dH/dtheta|n><n|C|k> / (E_k - E_n) with dense matrices, of cases without inputs."""
    zero = {name: np.zeros_like(value) for name, value in case.params.items()}
    energies, states = np.linalg.eigh(case.hamiltonian(case.params, None))
    psi, others = states[:, level], np.delete(np.arange(len(energies)), level)
    expectations = np.array([np.vdot(psi, o @ psi).real for o in case.observables])
    signal = difference_quotient(lambda o: case.loss(o, case.target), expectations)
    kicked = states[:, others].conj().T @ (sum_over(signal, list(case.observables)) @ psi)
    x = states[:, others] @ (kicked / (energies[level] - energies[others]))
    grad, offset = {}, case.hamiltonian(zero, None)
    for name, value in case.params.items():
        grad[name] = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            unit = {n: v.copy() for n, v in zero.items()}
            unit[name][index] = 1.0
            grad[name][index] = 2 * np.vdot(psi, (case.hamiltonian(unit, None) - offset) @ x).real
    return grad


def energies_of(case: Case) -> np.ndarray:
    return np.linalg.eigvalsh(case.hamiltonian(case.params, None))


@functools.cache
def random_tfim(n: int, seed: int = 0) -> Case:
    """A ring-like network with random couplings and fields: no symmetry."""
    rng = np.random.default_rng([n, seed])
    edges = [(i, i + 1) for i in range(n - 1)] + [(0, n // 2)]
    return Case(
        f"random TFIM {n}",
        qp.TransverseFieldIsing(n, edges),
        {
            "J": rng.normal(size=n),
            "h": 0.5 * rng.normal(size=n),
            "g": 1 + 0.3 * rng.normal(size=n),
        },
        qp.ObservableCost(qp.Z(1) * qp.Z(2) + 0.5 * qp.X(0)),
        tfim_matrix(n, edges),
        (on(n, "Z1 Z2") + 0.5 * on(n, "X0"),),
    )


@pytest.fixture
def matrix_free(monkeypatch):
    """No dense matrices: Lanczos level by level, Newton and MINRES."""
    for module in (exact_levels, eigen_kernels):
        monkeypatch.setattr(module, "DENSE_DIM", 4)


@pytest.fixture(params=["dense", "matrix-free"])
def method(request):
    if request.param == "matrix-free":
        request.getfixturevalue("matrix_free")
    return request.param


@pytest.mark.parametrize("level", [1, 2, 3, 6])
@pytest.mark.parametrize("n", [5, 6, 8])
def test_three_gradients_agree(n, level, method):
    case, solver = random_tfim(n), qp.ExactDiagonalization(level=level)
    exact, levels = sum_over_states(case, level), energies_of(case)
    assert norm(exact) > 0.1, "a gradient that vanishes tests nothing"
    response = qp.linear_response(*case.problem, solver=solver)
    assert deviation(response.grad, exact) < 1e-8
    assert float(response.free.energy) == pytest.approx(levels[level], abs=1e-10)
    assert float(response.free.gap) == pytest.approx(np.abs(np.delete(levels, level) - levels[level]).min(), rel=0.02)
    out = qp.ep_gradient(*case.problem, solver=solver)
    assert out.status is qp.Status.OK
    error = norm({name: out.grad[name] - exact[name] for name in exact})
    assert error <= 3 * norm(out.truncation) + out.residual * np.sqrt(3 * n) < 1e-2 * norm(exact)
    some = {"J": [0], "h": [1], "g": [n - 1]}
    quotient = qp.finite_difference(*case.problem, solver=solver, step=2e-3, components=some)
    assert deviation(quotient.grad, exact) < 1e-5


def test_the_levels_have_different_gradients():
    case = random_tfim(6)
    grads = [qp.linear_response(*case.problem, solver=qp.ExactDiagonalization(level=k)).grad for k in range(4)]
    for one, two in itertools.pairwise(grads):
        assert deviation(one, two) > 0.1


@pytest.mark.parametrize("case", [case for case in CASES if case.inputs is None], ids=lambda case: case.name)
def test_registry_at_the_first_level_that_is_not_degenerate(case):
    """Complex Hamiltonians, costs with Y, operators of one's own, nonlinear losses."""
    levels = energies_of(case)
    spacing = np.diff(levels)
    level = next((k for k in range(1, len(levels) - 1) if min(spacing[k - 1], spacing[k]) > 0.02), 1)
    solver, exact = qp.ExactDiagonalization(level=level), sum_over_states(case, level)
    out = qp.ep_gradient(*case.problem, solver=solver)
    assert deviation(qp.linear_response(*case.problem, solver=solver).grad, exact) < 1e-8
    assert norm({name: out.grad[name] - exact[name] for name in exact}) < 1e-5 * max(norm(exact), 1.0)
    assert norm(exact) > 1e-3


@pytest.mark.usefixtures("matrix_free")
@pytest.mark.parametrize("name", ["driven Jaynes-Cummings", "QuTiP spins"])
def test_operator_systems_matrix_free(name):
    case, solver = BY_NAME[name], qp.ExactDiagonalization(level=2)
    exact = sum_over_states(case, 2)
    out = qp.ep_gradient(*case.problem, solver=solver)
    assert out.free.stats["method"] == "Lanczos, level by level"
    assert out.nudged[0][1].stats["method"] == "Newton with MINRES"
    assert deviation(qp.linear_response(*case.problem, solver=solver).grad, exact) < 1e-7
    assert deviation(out.grad, exact) < 1e-4


@pytest.mark.usefixtures("matrix_free")
def test_complex_spins_matrix_free():
    rng = np.random.default_rng(4)
    labels = [f"{p}{i}" for i in range(5) for p in "XYZ"] + ["X0 Y1", "Z1 Z2", "Y2 Z3", "X3 X4"]
    case = Case(
        "complex",
        qp.SpinNetwork(5, {"a": [qp.PauliSum.from_labels({label: 1.0}) for label in labels]}),
        {"a": rng.normal(size=len(labels))},
        qp.ObservableCost(qp.Y(0) * qp.Z(3) + qp.X(2)),
        lambda p, x: sum_over(p["a"], [on(5, label) for label in labels]),
        (on(5, "Y0 Z3") + on(5, "X2"),),
    )
    solver, exact = qp.ExactDiagonalization(level=2), sum_over_states(case, 2)
    response = qp.linear_response(*case.problem, solver=solver)
    assert float(response.free.energy) == pytest.approx(energies_of(case)[2], abs=1e-10)
    assert norm(exact) > 0.1
    assert deviation(response.grad, exact) < 1e-8
    assert deviation(qp.ep_gradient(*case.problem, solver=solver).grad, exact) < 1e-5


@pytest.mark.usefixtures("matrix_free")
def test_a_cost_with_y_on_a_real_level():
    """psi is real and the response is imaginary: the real Hamiltonian must act on complex vectors."""
    case = BY_NAME["Y at zero strength"]
    exact = sum_over_states(case, 1)
    assert abs(exact["y"][0]) > 1e-3
    small = qp.SpinNetwork(5, dict(case.system.terms), fixed=qp.X(3) * 0.37 + qp.X(4) * 5.1)  # above 4 bits
    shifted = {name: value.copy() for name, value in case.params.items()}
    spectator = qp.linear_response(small, shifted, case.nudge, solver=qp.ExactDiagonalization(level=0))
    assert deviation(spectator.grad, case.exact.grad) < 1e-8, "two spins apart change nothing"
    energies = energies_of(case)
    assert energies[1] - energies[0] > 0.74 + 0.01, "level 1 of the small system is level 2 of the large one"
    level = qp.ExactDiagonalization(level=2)
    assert deviation(qp.linear_response(small, shifted, case.nudge, solver=level).grad, exact) < 1e-7


def test_sixteen_spins():
    """Level 2 of 2^16 levels: EP = linear response = finite differences, residuals met."""
    n, rng = 16, np.random.default_rng(1)
    edges = [(i, i + 1) for i in range(n - 1)] + [(0, 8)]
    net = qp.TransverseFieldIsing(n, edges)
    params = {"J": rng.normal(size=n), "h": 0.5 * rng.normal(size=n), "g": 1 + 0.3 * rng.normal(size=n)}
    cost, solver = qp.ObservableCost(qp.Z(1) * qp.Z(2) + 0.5 * qp.X(0)), qp.ExactDiagonalization(level=2)
    response = qp.linear_response(net, params, cost, solver=solver)
    assert norm(response.grad) > 0.1
    assert response.status is qp.Status.OK
    assert float(response.free.residual) < 1e-9
    out = qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.centered(2e-4))
    assert deviation(out.grad, response.grad) < 1e-5
    quotient = qp.finite_difference(net, params, cost, solver=solver, step=1e-2, components={"g": [2]})
    assert quotient.grad["g"][2] == pytest.approx(response.grad["g"][2], abs=1e-7)
    below = qp.equilibrate(net, params, solver=qp.ExactDiagonalization(level=1))
    assert abs(np.vdot(below.state.amplitudes, response.free.state.amplitudes)) < 1e-9


# --- complex nudges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 0])
def test_holomorphic_on_an_excited_level(bits, monkeypatch):
    monkeypatch.setattr(holomorphic, "DENSE_BITS", bits)
    case, solver = random_tfim(6), qp.ExactDiagonalization(level=2)
    exact = sum_over_states(case, 2)
    radius = 0.04 * float(qp.equilibrate(case.system, case.params, solver=solver).gap)
    errors = [
        deviation(qp.ep_gradient(*case.problem, solver=solver, scheme=qp.holomorphic(radius, n)).grad, exact)
        for n in (4, 8)
    ]
    assert errors[1] < 1e-7
    assert errors[1] < 0.02 * errors[0]


# --- branches and degeneracies ------------------------------------------------------------------------------------------


def two_spins() -> tuple[Any, dict[str, np.ndarray]]:
    """Z fields 1.0 and 0.8: levels -1.8, -0.2, 0.2, 1.8."""
    fields = qp.TransverseFieldIsing(2, [])
    return fields, {"J": np.zeros(0), "h": np.array([1.0, 0.8]), "g": np.zeros(2)}


def test_the_branch_is_followed_through_a_crossing():
    """A nudge by Z_1 - Z_0 makes levels 1 and 2 cross: the nudged state is the same product state, now number 2."""
    net, params = two_spins()
    solver = qp.ExactDiagonalization(level=1)
    free = qp.equilibrate(net, params, solver=solver)
    term = qp.ObservableCost(qp.Z(0) - qp.Z(1)).term(free.state)
    crossed = net.nudged(term, 0.3)
    branch = qp.equilibrate(crossed, params, solver=solver, init=free)
    number = qp.equilibrate(crossed, params, solver=solver)
    assert float(free.energy) == pytest.approx(-0.2)
    assert float(branch.energy) == pytest.approx(-0.2 + 0.6)
    assert float(number.energy) == pytest.approx(-0.4)
    assert branch.state.overlap(free.state) == pytest.approx(1.0)


def test_gradient_of_the_gap_is_followed_below_as_well_as_above():
    """The nearest level may be the lower one: the gap, and with it the default beta, must see it."""
    terms = {"e": [qp.MatrixOperator(np.diag(row)) for row in np.eye(4)], "v": [qp.MatrixOperator(np.ones((4, 4)))]}
    system = qp.OperatorSystem(terms)
    params = {"e": [0.0, 1.0, 1.1, 4.0], "v": [1e-3]}
    gap = float(qp.equilibrate(system, params, solver=qp.ExactDiagonalization(level=2)).gap)
    assert gap == pytest.approx(0.1, rel=0.01)


def test_a_lost_branch_is_reported(method):
    """No eigenstate of the nudged Hamiltonian has more than 4/9 of any free one."""
    n = 3 if method == "dense" else 24
    free_matrix = np.diag(np.arange(n, dtype=float))
    rotation = np.kron(np.eye(n // 3), np.eye(3) - 2 / 3)
    cost = qp.MatrixOperator(rotation @ free_matrix @ rotation.T - free_matrix)
    system, params = qp.OperatorSystem({"e": [free_matrix]}), {"e": [1.0]}
    solver = qp.ExactDiagonalization(level=1)
    free = qp.equilibrate(system, params, solver=solver)
    nudged = system.nudged(qp.ObservableCost(cost).term(free.state), 1.0)
    assert qp.equilibrate(nudged, params, solver=solver, init=free, throw=False).status is qp.Status.BRANCH_JUMP


@pytest.mark.parametrize("level", [2, 3])
def test_degenerate_levels_are_refused(level, method):
    """One magnon on a Heisenberg ring: momenta k and -k."""
    ring = heisenberg(6, [(i, (i + 1) % 6) for i in range(6)])
    fields = qp.SpinNetwork(6, dict(ring.terms), fixed=sum(qp.Z(i) for i in range(6)) * -10.0)
    params, solver = {"J": -np.ones(6)}, qp.ExactDiagonalization(level=level)
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.ep_gradient(fields, params, qp.ObservableCost(qp.Z(0)), solver=solver)


@pytest.mark.usefixtures("matrix_free")
def test_no_copy_of_a_level_is_missed():
    """Five spins in equal fields: levels of multiplicity 1, 5, 10, 10, 5, 1."""
    net = qp.TransverseFieldIsing(5, [])
    params = {"J": [], "h": np.ones(5), "g": np.zeros(5)}
    energies = [
        float(qp.equilibrate(net, params, solver=qp.ExactDiagonalization(level=k), throw=False).energy)
        for k in range(1, 8)
    ]
    np.testing.assert_allclose(energies, [-3.0] * 5 + [-1.0] * 2, atol=1e-9)


# --- arguments ----------------------------------------------------------------------------------------------------------


def test_bad_levels_are_refused():
    net, params = two_spins()
    with pytest.raises(ValueError, match="Argument `level` must be at least 0, but is -1"):
        qp.ExactDiagonalization(level=-1)
    with pytest.raises(TypeError, match="Argument `level` must be an integer"):
        qp.ExactDiagonalization(level=1.5)
    with pytest.raises(ValueError, match="Argument `level` must be below the dimension 4 of the system, but is 4"):
        qp.equilibrate(net, params, solver=qp.ExactDiagonalization(level=4))
    big = qp.TransverseFieldIsing(14, [(i, i + 1) for i in range(13)])
    start = {"J": np.ones(13), "h": np.ones(14), "g": np.ones(14)}
    with pytest.raises(MemoryError, match="up to level 1"):
        qp.equilibrate(big, start, solver=qp.ExactDiagonalization(level=1, memory=1000))


def test_repr_and_batches():
    assert repr(qp.ExactDiagonalization(level=2)) == "ExactDiagonalization(level=2, tolerance=1e-10)"
    case = BY_NAME["input sites, batch"]
    solver = qp.ExactDiagonalization(level=1)
    batch = qp.linear_response(*case.problem, inputs=case.inputs, solver=solver)
    singles = [
        qp.linear_response(*case.problem[:3], y, inputs=x, solver=solver).grad
        for x, y in zip(case.inputs, case.target, strict=True)
    ]
    mean = {name: np.mean([grad[name] for grad in singles], axis=0) for name in batch.grad}
    assert norm(mean) > 0.01
    assert deviation(batch.grad, mean) < 1e-10
