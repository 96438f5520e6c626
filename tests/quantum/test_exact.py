"""Every case of the registry against its oracle, in every scheme: gradients, errors, orders, finite nudges, batches."""

import dataclasses

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import exact_matrix

from ..measures import deviation, norm
from ..oracle import Case, name_of
from ..registry import BATCHED_CASES, BY_NAME, CASES, REAL_CASES

SCHEMES = {
    "positive": qp.one_sided,
    "negative": lambda beta: qp.one_sided(-beta),
    "centered": qp.centered,
    "richardson": qp.richardson,
    "holomorphic": qp.holomorphic,
}
each_case = pytest.mark.parametrize("case", CASES, ids=name_of)
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def free_phase(case: Case) -> qp.EPGradient:
    return qp.linear_response(*case.problem, inputs=case.inputs)


def moderate_nudge(case: Case, ratio: float = 0.05) -> float:
    """A nudge of `ratio` * gap / ||C||; for operator batches, which have no common state, of the cost's own scale."""
    free = free_phase(case)
    return case.beta(ratio, free.free.state) if np.ndim(case.inputs) < 2 or free.free.gap.shape else ratio / 4


def difference(out: qp.EPGradient, case: Case) -> dict[str, np.ndarray]:
    return {name: value - case.exact.grad[name] for name, value in out.grad.items()}


@each_case
def test_case_is_not_vacuous(case):
    assert norm(case.exact.grad) > case.least, "a gradient that vanishes by symmetry tests nothing"
    assert case.exact.gaps.min() > 0.1, "a nearly degenerate case tests the wrong thing"


@each_case
def test_energy_gap_and_loss(case):
    free = free_phase(case)
    assert float(free.loss) == pytest.approx(case.exact.loss, abs=1e-10)
    if not (isinstance(case.system, qp.OperatorSystem) and np.ndim(case.inputs) == 2):
        np.testing.assert_allclose(free.free.energy.mean, np.squeeze(case.exact.energies), atol=1e-10)
        np.testing.assert_allclose(free.free.gap, np.squeeze(case.exact.gaps), rtol=0.02)


@each_case
def test_linear_response_is_exact(case):
    out = free_phase(case)
    assert out.status is qp.Status.OK
    assert deviation(out.grad, case.exact.grad) < 1e-9
    assert norm(out.truncation) == norm(out.stderr) == 0.0


@each_case
def test_default_scheme(case):
    """centered(beta) with a beta at which truncation meets the solver's residual: no worse than 1e-5."""
    out = qp.ep_gradient(*case.problem, inputs=case.inputs)
    assert out.status is qp.Status.OK
    assert deviation(out.grad, case.exact.grad) < 1e-5


@each_case
def test_finite_differences(case):
    out = qp.finite_difference(*case.problem, inputs=case.inputs, step=5e-3)
    assert deviation(out.grad, case.exact.grad) < 1e-6


@each_case
@each_scheme
def test_scheme_is_right_within_the_error_it_reports(case, scheme):
    stencil = SCHEMES[scheme](moderate_nudge(case))
    if stencil.is_complex and not case.real:
        with pytest.raises(ValueError, match="use centered or richardson"):
            qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=stencil)
        return
    out = qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=stencil)
    error, size = norm(difference(out, case)), norm(case.exact.grad)
    residual = out.residual * np.sqrt(sum(value.size for value in out.grad.values()))
    assert out.status is qp.Status.OK
    assert error <= 3 * norm(out.truncation) + 3 * residual, f"error {error:.2e}, reported {norm(out.truncation):.2e}"
    worst = {"positive": 0.2, "negative": 0.2, "centered": 6e-3, "richardson": 2e-5, "holomorphic": 1e-7}[scheme]
    assert error <= worst * size, f"relative error {error / size:.2e}"


WITHIN = {
    "positive": (0.8, 1.3),
    "negative": (0.8, 1.3),
    "centered": (1 / 3, 30),
    "richardson": (1 / 3, 30),
    "holomorphic": (0.1, 1e3),
}


@each_scheme
def test_truncation_is_honest_and_useful_component_by_component(scheme):
    """Over the registry: reported / true error of nine components in ten within bounds, the median of order one."""
    ratios = []
    for case in REAL_CASES:
        out = qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=SCHEMES[scheme](moderate_nudge(case)))
        for name, error in difference(out, case).items():
            seen = np.abs(error) > 20 * out.residual  # else the error is the solver's, not the nudge's
            ratios.append(out.truncation[name][seen] / np.abs(error[seen]))
    ratios, (low, high) = np.concatenate(ratios), WITHIN[scheme]
    assert ratios.size >= (10 if scheme == "holomorphic" else 50), (
        "too few components have a truncation error that can be seen"
    )
    assert 0.5 < np.median(ratios) < 10
    assert np.mean(ratios < low) < 0.05, f"too small: {np.sort(ratios)[:9].round(2)}"
    assert np.mean(ratios > high) < 0.15, f"too large: {np.sort(ratios)[-9:].round(2)}"


@pytest.mark.parametrize("fields", [(0.1, 1.0, 1.0), (0.2, 0.8, 1.4)], ids=["even", "graded"])
def test_truncation_where_a_second_derivative_passes_through_zero(fields):
    """The force on the last transverse field is straight by accident: one-sided and centered formulas nearly agree."""
    n = 8
    network = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    params = {"J": np.ones(n - 1), "h": np.full(n, fields[0]), "g": np.linspace(*fields[1:], n)}
    cost = qp.ObservableCost(qp.Z(n - 1))
    exact = qp.linear_response(network, params, cost).grad
    out, side = (qp.ep_gradient(network, params, cost, scheme=make(0.01)) for make in (qp.centered, qp.one_sided))
    bend = (side.grad["g"] - exact["g"]) / exact["g"]
    assert np.all(bend[:-1] * bend[-1] < 0), "between the last two fields it passes through zero"
    for name in params:
        ratio = out.truncation[name] / np.abs(out.grad[name] - exact[name])
        assert np.all((ratio > 0.5) & (ratio < 15)), (name, ratio)


def test_truncation_sees_a_force_that_is_odd_in_beta():
    """Where F(b) = -F(-b), one-sided and centered formulas agree and are equally wrong: the energies tell."""
    network, params = qp.TransverseFieldIsing(1, []), {"J": [], "h": [0.0], "g": [1.0]}
    out = qp.ep_gradient(network, params, qp.ObservableCost(qp.Z(0)), scheme=qp.centered(0.1), throw=False)
    exact_value = 1.0  # <Z> = h / sqrt(h^2 + g^2)
    error = abs(out.grad["h"][0] - exact_value)
    assert error > 1e-3
    assert error <= 3 * out.truncation["h"][0] <= 30 * error


def test_truncation_is_unknown_without_an_embedded_formula():
    case = BY_NAME["two-spin TFIM"]
    bare = qp.Stencil("bare", strengths=(0.01, -0.01), weights=(50.0, -50.0), order=2)
    out = qp.ep_gradient(*case.problem, scheme=bare)
    assert all(np.all(np.isnan(value)) for value in out.truncation.values())
    assert deviation(out.grad, case.exact.grad) < 1e-3


# --- orders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "order"), [("positive", 1), ("negative", 1), ("centered", 2), ("richardson", 4)])
@pytest.mark.parametrize("name", ["two-spin TFIM", "complex, with Y", "squared error"])
def test_order_of_truncation(name, scheme, order):
    case = BY_NAME[name]
    largest = moderate_nudge(case)
    betas = largest * np.array([0.5, 0.25, 0.125]) * (1.5 if order == 4 else 0.2)
    errors = [norm(difference(qp.ep_gradient(*case.problem, scheme=SCHEMES[scheme](b)), case)) for b in betas]
    slope = np.polyfit(np.log(betas), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.1), f"errors {errors}"


def test_holomorphic_error_is_geometric_in_the_number_of_points():
    """Cauchy on |beta| = r is wrong by (r/R)^N: the same factor for every four points, the square for twice the r."""
    case = BY_NAME["chain with fields"]

    def error(radius: float, n_points: int) -> float:
        scheme = qp.holomorphic(radius, n_points=n_points)
        return norm(difference(qp.ep_gradient(*case.problem, scheme=scheme, throw=False), case))

    e4, e8, e12 = (error(0.25, n) for n in (4, 8, 12))
    assert e4 > 1e3 * e12
    assert np.log(e8 / e4) == pytest.approx(np.log(e12 / e8), rel=0.3), f"errors {e4:.2e}, {e8:.2e}, {e12:.2e}"
    for n in (4, 8):
        slope = np.log2(error(0.25, n) / error(0.125, n))
        assert slope == pytest.approx(n, abs=0.5)


# --- finite nudges: exact, without any limit --------------------------------------------------------------------------

NUDGED_CASES = [case for case in CASES if not (isinstance(case.system, qp.OperatorSystem) and case.inputs is not None)]


def energy_quotient_gradient(case: Case, strengths: dict[float, float], step: float = 1e-3) -> dict[str, np.ndarray]:
    """d/dtheta of sum_b w_b e(theta, b) by fourth-order finite differences of ground-state energies alone."""
    system = case.system if case.inputs is None else case.system.with_inputs(case.inputs)
    free = qp.equilibrate(system, case.params)
    term = case.nudge.term(free.state, case.target)

    def value(params: dict[str, np.ndarray]) -> float:
        phases = {b: qp.equilibrate(system.nudged(term, b), params, init=free, throw=False) for b in strengths}
        return float(np.mean(sum(w * phases[b].energy.mean for b, w in strengths.items())))

    grad = {name: np.zeros_like(array) for name, array in case.params.items()}
    for name, array in grad.items():
        for index in list(np.ndindex(array.shape))[:4]:
            values = {}
            for k in (-2, -1, 1, 2):
                moved = {n: a.copy() for n, a in case.params.items()}
                moved[name][index] += k * step
                values[k] = value(moved)
            array[index] = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
        array.flat[4:] = np.nan
    return grad


@pytest.mark.parametrize("beta", [0.5, 0.05])
@pytest.mark.parametrize("case", NUDGED_CASES, ids=name_of)
def test_centered_ep_is_the_exact_gradient_at_finite_nudge(case, beta):
    out = qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=qp.centered(beta), throw=False)
    expected = energy_quotient_gradient(case, {beta: 0.5 / beta, -beta: -0.5 / beta})
    assert norm({n: np.nan_to_num(v) for n, v in expected.items()}) > 0.01
    assert deviation(expected, out.grad) < 2e-8


@pytest.mark.parametrize("beta", [0.5, -0.5, 0.05])
@pytest.mark.parametrize("case", NUDGED_CASES, ids=name_of)
def test_one_sided_ep_is_the_exact_gradient_at_finite_nudge(case, beta):
    out = qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=qp.one_sided(beta), throw=False)
    expected = energy_quotient_gradient(case, {beta: 1 / beta, 0.0: -1 / beta})
    assert deviation(expected, out.grad) < 2e-8


@pytest.mark.parametrize("case", NUDGED_CASES, ids=name_of)
def test_energy_is_concave_and_bounds_the_cost(case):
    """[e(b) - e(0)]/b <= <C>_0 <= [e(-b) - e(0)]/(-b): positive EP from below, negative EP from above."""
    system = case.system if case.inputs is None else case.system.with_inputs(case.inputs)
    free = qp.equilibrate(system, case.params)
    term = case.nudge.term(free.state, case.target)
    cost = term.expect(free.state).mean
    betas = np.array([-0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6])
    energies = np.array([qp.equilibrate(system.nudged(term, b), case.params, throw=False).energy.mean for b in betas])
    slopes = np.diff(energies, axis=0) / np.diff(betas).reshape(-1, *[1] * (energies.ndim - 1))
    assert np.all(np.diff(slopes, axis=0) <= 1e-9), "e(beta) must be concave"
    assert np.all(slopes[3:] <= cost + 1e-9), "positive EP must bound the cost from below"
    assert np.all(slopes[:3] >= cost - 1e-9), "negative EP must bound the cost from above"
    assert np.any(np.diff(slopes, axis=0) < -1e-4), "the cost must respond to its nudge"


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BATCHED_CASES, ids=name_of)
@pytest.mark.parametrize("scheme", [qp.LinearResponse(), qp.centered(1e-2), qp.one_sided(1e-2)], ids=str)
def test_batch_is_the_mean_of_single_calls(case, scheme):
    batch = qp.ep_gradient(*case.problem, inputs=case.inputs, scheme=scheme)
    singles = [
        qp.ep_gradient(*case.problem[:3], y, inputs=x, scheme=scheme)
        for x, y in zip(case.inputs, case.target, strict=True)
    ]
    mean = {name: np.mean([out.grad[name] for out in singles], axis=0) for name in batch.grad}
    tolerance = 1e-10 if not isinstance(scheme, qp.Stencil) else 4 * batch.residual + 1e-10
    assert norm({name: batch.grad[name] - mean[name] for name in mean}) < tolerance
    np.testing.assert_allclose(batch.losses, [float(out.loss) for out in singles], atol=1e-10)
    assert float(batch.loss) == pytest.approx(np.mean(batch.losses), abs=1e-12)


def test_batch_of_one_keeps_its_axis():
    case = BY_NAME["input sites, batch"]
    one = dataclasses.replace(case, inputs=case.inputs[:1], target=case.target[:1])
    out = qp.linear_response(*one.problem, inputs=one.inputs)
    assert out.losses.shape == (1,)
    assert deviation(out.grad, one.exact.grad) < 1e-9


def test_warm_start_from_an_equilibrium():
    case = BY_NAME["all-to-all random"]
    free = qp.equilibrate(case.system, case.params)
    moved = case.params | {"g": case.params["g"] + 1e-3}
    cold = qp.linear_response(case.system, moved, case.nudge)
    warm = qp.linear_response(case.system, moved, case.nudge, init=free)
    assert deviation(warm.grad, cold.grad) < 1e-8
    assert warm.free.gap is not None, "a free phase always has a gap"


def test_gradient_prints_what_it_is():
    text = repr(qp.ep_gradient(*BY_NAME["all-to-all random"].problem))
    for part in ("loss", "centered(", "ExactDiagonalization", "gap", "truncation", "J[0]", "7 more of J, norm", "g[5]"):
        assert part in text, f"{part!r} is missing from\n{text}"


# --- the other code paths, on the same cases --------------------------------------------------------------------------


@pytest.fixture
def sparse_matrices(monkeypatch):
    """Operator systems through Lanczos on the sparse matrix."""
    monkeypatch.setattr(exact_matrix, "DENSE_DIM", 0)


@pytest.mark.usefixtures("sparse_matrices")
@pytest.mark.parametrize("name", ["QuTiP spins", "driven Jaynes-Cummings", "operators, batch of inputs"])
def test_operator_systems_through_sparse_lanczos(name):
    case = BY_NAME[name]
    out = qp.linear_response(*case.problem, inputs=case.inputs)
    assert out.free.stats["method"] == "sparse Lanczos"
    assert deviation(out.grad, case.exact.grad) < 1e-8
    assert float(out.free.gap) == pytest.approx(case.exact.gaps[-1], rel=0.02)
    nudged = qp.ep_gradient(*case.problem, inputs=case.inputs)
    assert deviation(nudged.grad, case.exact.grad) < 1e-5
