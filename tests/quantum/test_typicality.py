"""Sampled thermal states: gradients, batches, limits, what is refused, said and kept."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import SampledThermalState, typicality
from qeqprop.quantum.spins import AbstractSpinSystem

from ..measures import deviation
from ..oracle import name_of
from ..registry import BATCHED_CASES, CASES
from .typical_cases import COST, flat, matrix_of, network

SPIN_CASES = [
    case for case in CASES if isinstance(case.system, AbstractSpinSystem) and np.ndim(case.inputs) < 2 and
    case.system.n_sites <= 6
]  # fmt: skip
SPIN_BATCHES = [case for case in BATCHED_CASES if isinstance(case.system, AbstractSpinSystem)]


# --- states and gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SPIN_CASES, ids=name_of)
@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_a_complete_basis_is_exact(case, temperature):
    solver = qp.ThermalPureStates(temperature, samples=2, deflated=1 << case.system.n_sites, tolerance=1e-12)
    exact = qp.linear_response(*case.problem, inputs=case.inputs, solver=qp.GibbsState(temperature))
    out = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=solver, key=0)
    assert np.linalg.norm(flat(exact.grad)) > 1e-2
    assert deviation(out.grad, exact.grad) < 1e-9
    assert flat(out.stderr).max() < 1e-11
    assert float(out.loss) == pytest.approx(float(exact.loss), abs=1e-9)
    assert float(out.free.energy) == pytest.approx(float(exact.free.energy), abs=1e-9)
    for name in ("mean_energy", "entropy"):
        assert float(out.free.stats[name]) == pytest.approx(exact.free.stats[name], abs=1e-9)


def test_nudges_with_common_random_vectors_have_the_limit_of_linear_response():
    system, params = network(7)
    solver = qp.ThermalPureStates(1.0, samples=8, deflated=4, tolerance=1e-12)
    response = qp.ep_gradient(system, params, COST, solver=solver, key=3)
    assert np.linalg.norm(flat(response.stderr)) > 1e-2 * np.linalg.norm(flat(response.grad))
    for scheme, tolerance in ((qp.centered(1e-3), 1e-5), (qp.richardson(1e-2), 1e-6)):
        nudged = qp.ep_gradient(system, params, COST, solver=solver, scheme=scheme, key=3)
        assert deviation(nudged.grad, response.grad) < tolerance
        assert deviation(nudged.stderr, response.stderr) < 100 * tolerance  # and not 1/beta times as large
    other = qp.ep_gradient(system, params, COST, solver=solver, key=4)
    assert deviation(other.grad, response.grad) > 1e-3


def test_many_occupied_levels_are_sampled_only():
    system, params = network(10)
    free = qp.equilibrate(system, params, solver=qp.ThermalPureStates(8.0, samples=16), key=0)
    levels = np.linalg.eigvalsh(matrix_of(system.hamiltonian(params)))
    z, z2 = (np.exp(-b * (levels - levels[0]) / 8.0).sum() for b in (1, 2))
    assert free.stats["occupied_levels"] == pytest.approx(z**2 / z2, rel=0.5)
    assert free.stats["exact_vectors"] == 0
    assert free.state.sampled_fraction() == 1


@pytest.mark.parametrize("temperature", [0.05, 1e-3])
def test_low_temperature_is_the_ground_state(temperature):
    system, params = network(8)
    exact = qp.linear_response(system, params, COST)
    out = qp.ep_gradient(system, params, COST, solver=qp.ThermalPureStates(temperature), key=0)
    assert np.exp(-float(exact.free.gap) / temperature) < 1e-3
    thermal = qp.linear_response(system, params, COST, solver=qp.GibbsState(temperature))
    assert deviation(out.grad, thermal.grad) < 1e-4
    if temperature < 0.01:
        assert deviation(out.grad, exact.grad) < 1e-7
        assert float(out.free.energy) == pytest.approx(float(exact.free.energy), abs=1e-9)


def test_classical_hamiltonians_are_traced_without_noise():
    system, params = network(6)
    params = params | {"g": np.zeros(6)}
    out = qp.equilibrate(system, params, solver=qp.ThermalPureStates(1.0, samples=3, deflated=0), key=0)
    exact = qp.equilibrate(system, params, solver=qp.GibbsState(1.0))
    assert float(out.energy.stderr) < 1e-12
    assert float(out.energy) == pytest.approx(float(exact.energy), abs=1e-8)


@pytest.mark.parametrize("deflated", [0, 8])
def test_large_networks_are_right(deflated):
    """Above 14 spins the vectors are not stacked. Free spins: <Z> = (h/w) tanh(w/T), w = |(h, g)|, in closed form."""
    n, temperature = 15, 1.2
    system = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    h, g = np.linspace(0.9, 1.3, n), np.linspace(1.0, 0.6, n)
    params = {"J": np.zeros(n - 1), "h": h, "g": g}

    def z(h: float, g: float) -> float:
        return h / np.hypot(h, g) * np.tanh(np.hypot(h, g) / temperature)

    step = 1e-5
    by_h = (z(h[0] + step, g[0]) - z(h[0] - step, g[0])) / (2 * step)
    by_g = (z(h[0], g[0] + step) - z(h[0], g[0] - step)) / (2 * step)
    solver = qp.ThermalPureStates(temperature, samples=10, deflated=deflated)
    out = qp.ep_gradient(system, params, qp.ObservableCost(qp.Z(0)), solver=solver, key=1)
    for value, error, truth in (
        (out.loss.mean, out.loss.stderr, z(h[0], g[0])),
        (out.grad["h"][0], out.stderr["h"][0], by_h),
        (out.grad["g"][0], out.stderr["g"][0], by_g),
        (out.grad["J"][0], out.stderr["J"][0], by_h * z(h[1], g[1])),
    ):
        assert abs(value - truth) < 4 * error
        assert error < 0.15 * abs(truth)


def test_costs_with_an_odd_number_of_y_respond():
    """H is real, the cost imaginary: real vectors need their imaginary half only in the response."""
    system = qp.SpinNetwork(3, {"a": [qp.X(0) * qp.Y(1), qp.Y(2), qp.Z(0)], "b": [qp.X(i) for i in range(3)]},
                            fixed=qp.Z(0) * qp.Z(1) + 0.7 * qp.Z(1) * qp.Z(2))  # fmt: skip
    params = {"a": np.array([0.0, 0.0, 0.4]), "b": np.array([0.5, 0.9, 1.1])}
    cost = qp.ObservableCost(qp.Y(2) * qp.Z(1))
    exact = qp.linear_response(system, params, cost, solver=qp.GibbsState(0.8)).grad
    solver = qp.ThermalPureStates(0.8, samples=2, deflated=8, tolerance=1e-12)
    for scheme in (qp.LinearResponse(), qp.richardson(1e-2)):
        out = qp.ep_gradient(system, params, cost, solver=solver, scheme=scheme, key=0)
        assert abs(exact["a"][1]) > 0.1
        assert deviation(out.grad, exact) < 1e-6


@pytest.mark.parametrize("case", SPIN_BATCHES, ids=name_of)
def test_batches_go_sample_by_sample(case):
    solver = qp.ThermalPureStates(1.0, samples=16)
    out = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=solver, key=5)
    exact = qp.linear_response(*case.problem, inputs=case.inputs, solver=qp.GibbsState(1.0))
    assert np.all(np.abs(flat(out.grad) - flat(exact.grad)) < 5 * flat(out.stderr) + 1e-7)
    again = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=solver, key=5)
    assert np.array_equal(flat(out.grad), flat(again.grad))


def test_check_gradient_uses_common_random_vectors():
    system, params = network(6)
    check = qp.check_gradient(system, params, COST, solver=qp.ThermalPureStates(1.0), components={"h": [1]}, key=0)
    assert check.agrees


# --- what is refused, said and kept -----------------------------------------------------------------------------------


def test_too_few_vectors_at_low_temperature_fail():
    system, params = network(8)
    solver = qp.ThermalPureStates(0.1, samples=2, deflated=0)
    with pytest.raises(qp.EquilibriumError, match=r"undersampled: .*trace the low levels exactly"):
        qp.ep_gradient(system, params, COST, solver=solver, key=0)
    out = qp.ep_gradient(system, params, COST, solver=solver, key=0, throw=False)
    assert out.status is qp.Status.UNDERSAMPLED
    assert out.free.stats["partition_error"] > typicality.NOISE_LIMIT


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "must be positive and finite, but is 0.0. At T = 0 use ExactDiag"),
        ({"temperature": np.nan}, ValueError, "must be positive and finite, but is nan"),
        ({"temperature": "1"}, TypeError, "`temperature` must be a real number, but is '1'"),
        ({"samples": 1}, ValueError, "`samples` must be at least 2, but is 1"),
        ({"deflated": -1}, ValueError, "`deflated` must be at least 0, but is -1"),
        ({"tolerance": 0.5}, ValueError, "`tolerance` must lie between 1e-12 and 1e-2, but is 0.5"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        qp.ThermalPureStates(**{"temperature": 1.0} | options)


def test_bad_problems_are_refused_before_any_work():
    system, params = network(6)
    solver = qp.ThermalPureStates(1.0)
    case = next(case for case in CASES if isinstance(case.system, qp.OperatorSystem))
    with pytest.raises(TypeError, match=r"solves spin networks, not OperatorSystem\. Use GibbsState"):
        qp.ep_gradient(*case.problem, solver=solver)
    large = qp.TransverseFieldIsing(40, [(0, 1)])
    with pytest.raises(MemoryError, match=r"thermal state of 40 spins with 32 random vectors .* Use fewer `samples`"):
        qp.ep_gradient(large, large.init_params(0), qp.ObservableCost(qp.Z(0)), solver=solver)
    with pytest.raises(MemoryError, match=r"may be used"):
        qp.ep_gradient(system, params, COST, solver=qp.ThermalPureStates(1.0, memory=1000))
    with pytest.raises(ValueError, match="temperature is too low"):
        qp.equilibrate(system, params, solver=qp.ThermalPureStates(1e-7))
    ground = qp.equilibrate(system, params)
    with pytest.raises(ValueError, match="`init` must be an equilibrium of ThermalPureStates with 6 spins"):
        qp.equilibrate(system, params, solver=solver, init=ground)
    with pytest.raises(ValueError, match="cannot follow complex nudges"):
        qp.ep_gradient(system, params, COST, solver=solver, scheme=qp.holomorphic(0.1))
    state = qp.equilibrate(system, params, solver=solver, key=0).state
    with pytest.raises(TypeError, match="measured with Pauli sums, not with a MatrixOperator"):
        state.expect(qp.MatrixOperator(np.eye(64)))


def test_results_print_and_survive_saving(tmp_path):
    system, params = network(6)
    solver = qp.ThermalPureStates(1.0, samples=4, deflated=5)
    free = qp.equilibrate(system, params, solver=solver, key=0)
    assert isinstance(free.state, SampledThermalState)
    assert repr(free.state) == "SampledThermalState(6 spins, temperature 1, 4 random vectors, 5 traced exactly)"
    assert repr(solver) == "ThermalPureStates(temperature=1, samples=4, deflated=5)"
    assert "entropy" in repr(free)
    again = qp.load(qp.save(tmp_path / "free", free))
    operator = qp.Z(0) * qp.Z(2)
    assert repr(again.state.expect(operator)) == repr(free.state.expect(operator))
    # what was saved holds the random vectors as well: work goes on with them
    nudged = [qp.equilibrate(system, params | {"h": np.ones(6)}, solver=solver, init=e) for e in (free, again)]
    assert float(nudged[0].energy) == float(nudged[1].energy)
    gradient = qp.ep_gradient(system, params, COST, solver=solver, key=0)
    assert repr(qp.load(qp.save(tmp_path / "gradient", gradient))) == repr(gradient)
