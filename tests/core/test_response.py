"""The response matrix: rows are gradients; the square one is symmetric (Onsager) and negative in ground states."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import force_operators, heisenberg, susceptibility

from ..measures import deviation
from ..oracle import name_of
from ..registry import BY_NAME, CASES

SINGLE = [case for case in CASES if case.inputs is None]


def chain_with_fields(n: int = 6) -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    net = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    return net, {"J": rng.normal(size=n - 1), "h": 0.5 * rng.normal(size=n), "g": 1 + 0.2 * rng.normal(size=n)}


def springs(hbar: float) -> tuple[qp.HarmonicNetwork, dict[str, np.ndarray]]:
    net = qp.HarmonicNetwork(
        4, [(0, 1), (1, 2), (2, 3), (0, 2)], components=2, hbar=hbar, trainable=("k", "l", "kappa", "f", "m")
    )
    return net, net.init_params(5)


# --- rows -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [None, qp.centered(1e-3), qp.richardson(5e-3)], ids=str)
def test_rows_are_gradients(scheme):
    net, params = chain_with_fields()
    observables = {"edge": qp.Z(0), "pair": qp.Z(1) * qp.X(3), "sum": sum(qp.X(i) for i in range(6))}
    out = qp.response_matrix(net, params, observables, scheme=scheme)
    assert out.matrix.shape == (3, 17)
    for k, observable in enumerate(observables.values()):
        row = qp.ep_gradient(net, params, qp.ObservableCost(observable), scheme=scheme or qp.LinearResponse())
        assert np.linalg.norm(out.matrix[k]) > 0.1
        for name in params:
            np.testing.assert_allclose(out.grad[name][k], row.grad[name], rtol=1e-12)
            np.testing.assert_allclose(out.truncation[name][k], row.truncation[name], rtol=1e-12)
        assert out.values.mean[k] == pytest.approx(float(row.loss), abs=1e-14)


def test_against_finite_differences_of_the_expectations():
    net, params = chain_with_fields()
    observables = [qp.Z(0), qp.Z(2) * qp.Z(4), qp.X(5)]
    out, step = qp.response_matrix(net, params, observables), 1e-4
    for column, (name, index) in enumerate((n, i) for n, v in params.items() for i in range(v.size)):
        values = []
        for sign in (1, -1):
            moved = {n: v.copy() for n, v in params.items()}
            moved[name][index] += sign * step
            values.append(qp.equilibrate(net, moved).state.expect_all(observables).mean)
        np.testing.assert_allclose(out.matrix[:, column], (values[0] - values[1]) / (2 * step), atol=1e-6)


def test_the_chain_rule_gives_the_gradient_of_any_loss():
    case = BY_NAME["product loss"] if "product loss" in BY_NAME else BY_NAME["chain with fields"]
    out = qp.response_matrix(case.system, case.params, list(case.nudge.observables), inputs=case.inputs)
    weights = case.nudge.term(out.free.state, case.target).weights
    grad = {name: np.tensordot(weights, value, axes=1) for name, value in out.grad.items()}
    assert deviation(grad, case.exact.grad) < 1e-8


def test_one_free_solve(monkeypatch):
    net, params = chain_with_fields()
    solves = []
    solve = qp.ExactDiagonalization.solve
    monkeypatch.setattr(
        qp.ExactDiagonalization, "solve", lambda *args, **options: solves.append(1) or solve(*args, **options)
    )
    qp.response_matrix(net, params, [qp.Z(i) for i in range(6)])
    assert len(solves) == 1
    qp.response_matrix(net, params, [qp.Z(i) for i in range(6)], scheme=qp.centered(1e-3))
    assert len(solves) == 1 + 1 + 2 * 6


def test_thermal_and_excited_states():
    net, params = chain_with_fields(4)
    for solver in (qp.GibbsState(0.7), qp.ExactDiagonalization(level=2)):
        out = qp.response_matrix(net, params, [qp.Z(0), qp.X(1)], solver=solver)
        row = qp.finite_difference(net, params, qp.ObservableCost(qp.X(1)), solver=solver)
        assert deviation({name: out.grad[name][1] for name in params}, row.grad) < 1e-6


# --- the square one: Onsager and Kubo -----------------------------------------------------------------------------------


def check_susceptibility(out: qp.ResponseMatrix, *, negative: bool = True) -> None:
    chi = out.matrix
    assert chi.shape[0] == chi.shape[1]
    assert np.abs(chi - np.diag(np.diag(chi))).max() > 1e-2, "a diagonal matrix is symmetric anyway"
    np.testing.assert_allclose(chi, chi.T, atol=1e-8 * np.abs(chi).max())
    if negative:
        assert np.linalg.eigvalsh(chi).max() < 1e-8 * np.abs(chi).max()


@pytest.mark.parametrize("case", [c for c in SINGLE if sum(v.size for v in c.params.values()) > 2], ids=name_of)
def test_reciprocity_in_ground_states(case):
    check_susceptibility(susceptibility(case.system, case.params))


@pytest.mark.parametrize("scheme", [qp.centered(1e-3), qp.richardson(5e-3)], ids=str)
def test_reciprocity_holds_to_the_truncation_with_nudges(scheme):
    net, params = chain_with_fields()
    out = susceptibility(net, params, scheme=scheme, throw=False)
    exact = susceptibility(net, params).matrix
    bound = 3 * np.concatenate([out.truncation[name] for name in params], axis=1) + 1e-6
    assert np.all(np.abs(out.matrix - exact) <= bound)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 5.0])
def test_reciprocity_in_gibbs_states(temperature):
    net, params = chain_with_fields(5)
    check_susceptibility(susceptibility(net, params, solver=qp.GibbsState(temperature)))


def test_reciprocity_of_free_fermions():
    n = 40
    rng = np.random.default_rng(3)
    net = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    params = {"J": rng.uniform(0.5, 1.5, n - 1), "h": np.zeros(n), "g": rng.uniform(0.5, 1.5, n)}
    out = susceptibility(net, params, ["J", "g"], solver=qp.FreeFermions())
    assert out.columns[0] == "J[0]"
    assert out.labels[-1] == f"dH/dg[{n - 1}]"
    check_susceptibility(out)


@pytest.mark.parametrize("hbar", [1.0, 0.0])
def test_reciprocity_of_oscillators(hbar):
    net, params = springs(hbar)
    names = ["k", "l", "kappa", "f"] if hbar == 0 else None
    check_susceptibility(susceptibility(net, params, names))


def test_excited_states_are_symmetric_and_not_negative():
    net, params = chain_with_fields(4)
    out = susceptibility(net, params, solver=qp.ExactDiagonalization(level=3))
    check_susceptibility(out, negative=False)
    assert np.linalg.eigvalsh(out.matrix).max() > 0.1


def test_it_is_the_hessian_of_the_energy():
    net, params = chain_with_fields(4)
    chi, step = susceptibility(net, params, ["h"]).matrix, 1e-3

    def energy(a: int, b: int, s: int, t: int) -> float:
        h = params["h"].copy()
        h[a] += s * step
        h[b] += t * step
        return float(qp.equilibrate(net, params | {"h": h}).energy)

    for a, b in ((0, 0), (0, 3), (1, 2)):
        second = energy(a, b, 1, 1) - energy(a, b, 1, -1) - energy(a, b, -1, 1) + energy(a, b, -1, -1)
        assert chi[a, b] == pytest.approx(second / (4 * step**2), abs=1e-5)


@pytest.mark.parametrize("hbar", [1.0, 0.0])
def test_force_operators_are_the_forces(hbar):
    for system, params in (springs(hbar), chain_with_fields()):
        state = qp.equilibrate(system, params).state
        forces, operators = system.param_grad(params, state).mean, force_operators(system, params)
        assert list(operators) == list(forces)
        for name in forces:
            np.testing.assert_allclose(state.expect_all(operators[name]).mean, forces[name].ravel(), atol=1e-12)


def test_forces_scaled_by_inputs():
    net = qp.SpinNetwork(
        2, {"a": [qp.Z(0), qp.Z(1)]}, fixed=qp.X(0) + qp.X(1) + qp.Z(0) * qp.Z(1), drives={"a": [0, -1]}
    )
    out = susceptibility(net, {"a": [0.4, 0.7]}, inputs=[3.0])
    check_susceptibility(out)
    assert force_operators(net.with_inputs([3.0]), {})["a"] == [3.0 * qp.Z(0), qp.Z(1)]


# --- as a result ----------------------------------------------------------------------------------------------------------


def test_labels_and_xarray():
    net, params = springs(1.0)
    out = qp.response_matrix(net, params, [qp.R(0), qp.R(0), qp.P(1, 1) ** 2])
    assert out.labels == ("0: 1.0 * R0", "1: 1.0 * R0", "2: 1.0 * P1,1^2")
    table = out.to_xarray()
    assert table.response.dims == ("observable", "parameter")
    assert table.response.sel(parameter="l[2, 1]").shape == (3,)
    np.testing.assert_array_equal(table.response.sel(parameter="l[2, 1]"), out.grad["l"][:, 2, 1])
    np.testing.assert_array_equal(table.value, out.values.mean)


def test_it_prints_and_keeps(tmp_path):
    net, params = chain_with_fields()
    out = qp.response_matrix(
        net, params, {f"Z{i}": qp.Z(i) for i in range(6)} | {f"X{i}": qp.X(i) for i in range(8 - 2)}
    )
    for part in ("ResponseMatrix  12 observables x 17 parameters", "LinearResponse", "status = ok", "J[0]", "11 more"):
        assert part in repr(out)
    loaded = qp.load(qp.save(tmp_path / "matrix", out))
    assert repr(loaded) == repr(out)
    np.testing.assert_array_equal(loaded.matrix, out.matrix)


# --- what is refused ----------------------------------------------------------------------------------------------------


def test_bad_arguments():
    net, params = chain_with_fields()
    for bad in ([], {}, qp.Z(0), "Z0"):
        with pytest.raises(TypeError, match="Argument `observables` must be a non-empty list"):
            qp.response_matrix(net, params, bad)
    with pytest.raises(TypeError, match="must be an observable"):
        qp.response_matrix(net, params, [1.0])
    with pytest.raises(TypeError, match="must be a Pauli sum"):
        qp.response_matrix(net, params, [qp.R(0)])
    with pytest.raises(ValueError, match="Argument `names` must be some of"):
        susceptibility(net, params, ["K"])
    case = BY_NAME["input sites, batch"]
    with pytest.raises(ValueError, match="must be one sample, but has a batch axis of length 4"):
        qp.response_matrix(case.system, case.params, [qp.Z(0)], inputs=case.inputs)
    with pytest.raises(ValueError, match="cannot follow complex nudges"):
        qp.response_matrix(net, params, [qp.Z(0)], solver=qp.GibbsState(1.0), scheme=qp.holomorphic(0.1))


def test_failures_name_the_observable():
    net, params = chain_with_fields()
    with pytest.raises(qp.EquilibriumError, match="nudge too large: response of far"):
        qp.response_matrix(net, params, {"far": 40 * qp.Z(0)}, scheme=qp.centered(0.01))
    with pytest.warns(qp.NudgeWarning, match=r"beta\*\|\|O\|\|/gap"):
        qp.response_matrix(net, params, {"far": 10 * qp.Z(0)}, scheme=qp.centered(0.01))
    ring = heisenberg(3, [(0, 1), (1, 2), (0, 2)])
    with pytest.raises(qp.EquilibriumError, match="degenerate: free phase"):
        qp.response_matrix(ring, {"J": np.ones(3)}, [qp.Z(0)])
