"""Sampled thermal states: the exponential, the traces, the gradients and above all their error bars."""

from typing import Any

import numpy as np
import pytest
import scipy.linalg

import qeqprop as qp
from qeqprop.core.randomness import seed_sequence
from qeqprop.quantum import SampledThermalState, typicality
from qeqprop.quantum.imaginary_time import ImaginaryTime, exponential_coefficients, spectral_interval
from qeqprop.quantum.kernels import PauliKernel
from qeqprop.quantum.spins import AbstractSpinSystem, SpinHamiltonian
from qeqprop.quantum.split_trace import Probes, Trace, jackknifed, orthonormal_rows
from qeqprop.quantum.strings import string_table

from ..registry import BATCHED_CASES, BY_NAME, CASES, deviation, name_of

SPIN_CASES = [
    case for case in CASES if isinstance(case.system, AbstractSpinSystem) and np.ndim(case.inputs) < 2 and
    case.system.n_sites <= 6
]  # fmt: skip
SPIN_BATCHES = [case for case in BATCHED_CASES if isinstance(case.system, AbstractSpinSystem)]
COST = qp.ObservableCost(qp.Z(0) * qp.Z(2) + 0.5 * qp.Z(1))


def network(n: int, seed: int = 0) -> tuple[Any, ...]:
    """A ring with chords, every coupling and field different: no symmetry makes a gradient vanish."""
    rng = np.random.default_rng(seed)
    edges = [(i, (i + 1) % n) for i in range(n)] + [(i, i + n // 2) for i in range(n // 2)]
    params = {
        "J": rng.uniform(0.5, 1.5, len(edges)) * rng.choice([-1, 1], len(edges)),
        "h": rng.uniform(-0.5, 0.5, n),
        "g": rng.uniform(0.5, 1.5, n),
    }
    return qp.TransverseFieldIsing(n, edges), params


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([tree[name] for name in sorted(tree)])


def table(operator: Any, n: int) -> SpinHamiltonian:
    strings = string_table((operator,), n)
    return SpinHamiltonian(n, strings.n_bits, strings.x, strings.z, strings.coefficients.toarray()[0])


# --- the exponential and its derivative -------------------------------------------------------------------------------

HAMILTONIANS = {
    "one spin": (qp.X(0) + 0.3 * qp.Z(0), qp.Z(0), 1),
    "commuting": (qp.Z(0) * qp.Z(1) - 0.2 * qp.Z(2) + 1.5, qp.Z(1), 3),
    "chain": (sum(qp.Z(i) * qp.Z(i + 1) + (0.5 + 0.1 * i) * qp.X(i) for i in range(6)), qp.Z(0) * qp.X(3), 7),
    "with Y": (qp.X(0) * qp.Y(1) + 0.4 * qp.Z(0) + 0.2 * qp.X(2) * qp.Z(1), qp.Y(2) + qp.Z(0), 3),
}


@pytest.mark.parametrize("name", HAMILTONIANS)
@pytest.mark.parametrize("accuracy", [1e-3, 1e-10])
@pytest.mark.parametrize("time", [0.05, 3.0])
def test_exponential_and_derivative_are_within_their_bound(name, accuracy, time):
    operator, cost, n = HAMILTONIANS[name]
    h, c = table(operator, n), table(cost, n)
    h = h._replace(n_bits=max(h.n_bits, c.n_bits))
    matrices = [
        PauliKernelMatrix(t._replace(n_bits=h.n_bits)).dense for t in (h, c)
    ]  # what vectors of h.n_bits are multiplied by
    exponential = ImaginaryTime(h, time, 5, accuracy)
    stack = np.random.default_rng(0).normal(size=(exponential.rows, 1 << h.n_bits))
    kets, (slopes,) = exponential.differentiate(stack, [exponential.perturbation(c, 0.0)])
    shifted = -time * (matrices[0] - exponential.floor * np.eye(1 << h.n_bits))
    expected, derivative = scipy.linalg.expm_frechet(shifted, -time * matrices[1])
    scale = 2.0 ** (-n / 2)
    rounding = 1e-12
    assert np.linalg.norm(expected, 2) > 0.1
    for got, wanted, unit in ((kets, expected, 1.0), (slopes, derivative, time * np.linalg.norm(matrices[1], 2))):
        error = np.linalg.norm(got - stack @ wanted.T, axis=1) / np.linalg.norm(stack, axis=1)
        assert error.max() <= 1.01 * exponential.error * scale * unit + rounding
    assert exponential.error <= accuracy
    assert np.array_equal(kets, exponential.evolve(stack))


class PauliKernelMatrix:
    """The matrix of a table of strings, from their definition."""

    def __init__(self, h: SpinHamiltonian):
        index = np.arange(1 << h.n_bits)
        self.dense = np.zeros((index.size, index.size))
        for x, z, value in zip(h.x, h.z, h.coefficients, strict=True):
            self.dense[index ^ x, index] += value * (1 - 2 * (np.bitwise_count(index & z) % 2).astype(float))


def test_interval_encloses_the_spectrum():
    system, params = network(8)
    h = system.hamiltonian(params)
    levels = np.linalg.eigvalsh(PauliKernelMatrix(h).dense)
    for time in (0.1, 1e3):
        interval = spectral_interval(PauliKernel(8, h.x, h.z, h.coefficients), time)
        width = levels[-1] - levels[0]
        assert levels[0] - 1e-2 * width < interval.low <= levels[0] + 1e-12 * width
        assert levels[-1] - 1e-5 * width <= interval.high < levels[-1] + 1e-2 * width
        assert (interval.ground - interval.low) * time <= 1


def test_number_of_terms_grows_like_the_root_of_time():
    few, many = (len(exponential_coefficients(extent, 1e-10)[0]) for extent in (100.0, 10000.0))
    assert 8 < many / few < 11
    with pytest.raises(ValueError, match=r"temperature is too low: .* more than 6000 products"):
        exponential_coefficients(1e7, 1e-10)


# --- traces -----------------------------------------------------------------------------------------------------------


def test_traces_are_exact_on_the_basis_and_unbiased_on_the_rest():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(16, 16)) + 1j * rng.normal(size=(16, 16))
    matrix = matrix @ matrix.conj().T
    for count, kind in ((0, 1.0), (5, 1.0), (5, 1j), (16, 1j)):
        vectors = rng.normal(size=(count, 16)) + kind * rng.normal(size=(count, 16))
        basis = orthonormal_rows(np.array(vectors))
        probes = Probes(4, basis, 4000, np.array([1, 2]))
        rows = probes.rows(0, len(probes))
        assert np.array_equal(rows[count + 2 : count + 4], probes.rows(count + 2, count + 4))
        assert np.allclose(rows[:count] @ rows.conj().T, np.eye(count, len(rows)), atol=1e-12)
        values = np.einsum("ri,ij,rj->r", rows.conj(), matrix, rows).real
        out = jackknifed(lambda t: t, Trace.of(values, count))
        exact = np.trace(matrix).real
        assert abs(float(out) - exact) < 4 * float(out.stderr) + 1e-11 * exact
        assert float(out.stderr) < (0.02 if count < 16 else 1e-12) * exact


def test_dependent_vectors_are_left_out_of_a_basis():
    vectors = np.array([[1.0, 0, 0], [2.0, 0, 0], [1.0, 1e-6, 0], [0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    basis = orthonormal_rows(vectors)
    assert basis.shape == (3, 3)
    assert np.allclose(basis @ basis.T, np.eye(3), atol=1e-14)


def test_bias_of_ratios_is_removed():
    rng = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(2000):
        x, y = rng.normal([1.0, 1.0], 0.4, (12, 2)).T
        out = jackknifed(np.divide, Trace.of(x, 0), Trace.of(y, 0))
        plain.append(x.mean() / y.mean())
        corrected.append(float(out))
    error = np.std(plain) / np.sqrt(len(plain))
    assert np.mean(plain) - 1 > 2 * error
    assert abs(np.mean(corrected) - 1) < 3 * error


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


SQUARED = qp.ExpectationCost([qp.Z(0) * qp.Z(2), qp.X(1)])


@pytest.mark.parametrize(
    ("cost", "target", "deflated", "temperature"),
    [(COST, None, 0, 2.0), (COST, None, 6, 0.8), (SQUARED, np.array([0.1, 0.5]), 0, 2.0),
     (SQUARED, np.array([0.1, 0.5]), 6, 2.0)],
    ids=["random", "deflated", "squared error", "squared error, deflated"],
)  # fmt: skip
def test_error_bars_are_true(cost, target, deflated, temperature):
    system, params = network(6)
    solver = qp.ThermalPureStates(temperature, samples=40, deflated=deflated)
    exact = qp.linear_response(system, params, cost, target, solver=qp.GibbsState(temperature))
    outs = [qp.ep_gradient(system, params, cost, target, solver=solver, key=key) for key in range(40)]
    errors = np.array([flat(out.grad) - flat(exact.grad) for out in outs])
    z = errors / np.array([flat(out.stderr) for out in outs])
    # the components of one gradient share their random vectors: far fewer than z.size are independent
    assert abs(z.mean()) < 0.1
    assert 0.9 < z.std() < 1.15
    assert 0.01 < (np.abs(z) > 2).mean() < 0.09
    spread = np.linalg.norm(errors.std(axis=0)) / np.linalg.norm(flat(exact.grad))
    assert 1e-3 < spread < 0.4
    for value, truth in (
        ([out.loss for out in outs], exact.loss),
        ([out.free.energy for out in outs], exact.free.energy),
        ([out.free.stats["entropy"] for out in outs], exact.free.stats["entropy"]),
    ):
        z = np.array([(float(x) - float(truth)) / float(x.stderr) for x in value])
        assert abs(z.mean()) < 4 / np.sqrt(len(z))
        assert abs(z.std() - 1) < 4 / np.sqrt(2 * len(z))


def test_noise_of_the_error_signal_counts():
    """Near the target the signal 2 (<O> - y) is small, and its noise is most of the gradient's."""
    system, params = network(6)
    observable, solver = qp.Z(0) * qp.Z(2), qp.ThermalPureStates(2.0, samples=40, deflated=0)
    target = np.array(
        [float(qp.equilibrate(system, params, solver=qp.GibbsState(2.0)).state.expect(observable)) + 0.02]
    )
    problem = (system, params, qp.ExpectationCost([observable]), target)
    exact = flat(qp.linear_response(*problem, solver=qp.GibbsState(2.0)).grad)
    outs = [qp.ep_gradient(*problem, solver=solver, key=key) for key in range(40)]
    z = np.array([(flat(out.grad) - exact) / flat(out.stderr) for out in outs])
    assert 0.85 < z.std() < 1.2
    stencil = qp.ep_gradient(*problem, solver=solver, scheme=qp.centered(1e-3), key=0)  # at the signal it found
    assert np.linalg.norm(flat(stencil.stderr)) < 0.5 * np.linalg.norm(flat(outs[0].stderr))


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


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_exactly_traced_levels_are_worth_more_than_random_vectors(temperature):
    system, params = network(9)
    exact = flat(qp.linear_response(system, params, COST, solver=qp.GibbsState(temperature)).grad)
    errors = []
    for solver in (qp.ThermalPureStates(temperature), qp.ThermalPureStates(temperature, samples=64, deflated=0)):
        outs = [qp.ep_gradient(system, params, COST, solver=solver, key=key, throw=False) for key in range(6)]
        errors.append(np.sqrt(np.mean([np.sum((flat(out.grad) - exact) ** 2) for out in outs])))
    assert errors[0] < 0.1 * errors[1]
    assert errors[0] < 0.02 * np.linalg.norm(exact)


def test_many_occupied_levels_are_sampled_only():
    system, params = network(10)
    free = qp.equilibrate(system, params, solver=qp.ThermalPureStates(8.0, samples=16), key=0)
    levels = np.linalg.eigvalsh(PauliKernelMatrix(system.hamiltonian(params)).dense)
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


def test_estimates_of_a_state_are_consistent():
    case, solver = BY_NAME["chain with fields"], qp.ThermalPureStates(2.0, deflated=0)
    state = qp.equilibrate(case.system, case.params, solver=solver, key=seed_sequence(1)).state
    energy, free = state.mean_energy(), state.free_energy()
    assert float(case.system.energy(case.params, state)) == pytest.approx(float(energy), rel=1e-12)
    assert float(state.entropy()) == pytest.approx((float(energy) - float(free)) / 2.0)
    assert float(energy.stderr) > 0
    assert float(case.system.energy(case.params, state).stderr) == pytest.approx(float(energy.stderr), rel=1e-9)
