"""The engine against other people's codes and against exactly solved models."""

import numpy as np
import pytest
import qutip
from hypothesis import given, settings
from hypothesis import strategies as st

import qeqprop as qp
from qeqprop.quantum import cluster_ising, kitaev_honeycomb, xxz

from ..free_cases import FreeFermions
from ..measures import deviation, norm
from ..registry import BY_NAME
from .chains import chain


def qutip_on(n: int, **matrices: tuple[int, ...]) -> qutip.Qobj:
    """The product of one kind of Pauli matrix on some sites, e.g. `qutip_on(4, z=(0, 1))`."""
    factors = [qutip.qeye(2)] * n
    for name, sites in matrices.items():
        for site in sites:
            factors[site] = {"x": qutip.sigmax(), "y": qutip.sigmay(), "z": qutip.sigmaz()}[name]
    return qutip.tensor(factors)


# --- QuTiP ------------------------------------------------------------------------------------------------------------


def test_qutip_gradient_by_its_own_finite_differences():
    """A Hamiltonian written in QuTiP, its ground state by QuTiP, the gradient by differencing QuTiP's loss."""
    edges, n = [(0, 1), (1, 2), (2, 3), (0, 3)], 4
    rng = np.random.default_rng(2)
    params = {"J": rng.normal(size=4), "h": rng.normal(size=4), "g": 1 + 0.2 * rng.normal(size=4)}
    terms = {
        "J": [-qutip_on(n, z=edge) for edge in edges],
        "h": [-qutip_on(n, z=(i,)) for i in range(n)],
        "g": [-qutip_on(n, x=(i,)) for i in range(n)],
    }
    cost = qutip_on(n, z=(2,)) + 0.5 * qutip_on(n, y=(0, 1))

    def loss(values: dict[str, np.ndarray]) -> float:
        hamiltonian = sum(v * op for name in values for v, op in zip(values[name], terms[name], strict=True))
        return qutip.expect(cost, hamiltonian.groundstate()[1])

    expected = {name: np.zeros_like(value) for name, value in params.items()}
    step = 1e-4
    for name, value in params.items():
        for k in range(len(value)):
            shifted = [params | {name: value + s * step * np.eye(len(value))[k]} for s in (1, -1)]
            expected[name][k] = (loss(shifted[0]) - loss(shifted[1])) / (2 * step)
    nudge = qp.ObservableCost(qp.Z(2) + 0.5 * qp.Y(0) * qp.Y(1))
    network = qp.TransverseFieldIsing(n, edges)
    out = qp.ep_gradient(network, params, nudge)
    assert norm(expected) > 0.1
    assert float(out.loss) == pytest.approx(loss(params), abs=1e-10)
    assert deviation(out.grad, expected) < 1e-6
    by_matrices = qp.ep_gradient(qp.OperatorSystem(terms), params, qp.ObservableCost(qp.MatrixOperator(cost)))
    assert deviation(by_matrices.grad, expected) < 1e-6
    ours, theirs = out.free.state.to_qutip(), sum(
        v * op for name in params for v, op in zip(params[name], terms[name], strict=True)
    ).groundstate()[1]  # fmt: skip
    assert ours.dims == theirs.dims
    assert abs(ours.overlap(theirs)) == pytest.approx(1.0, abs=1e-10)


def test_kitaev_honeycomb_against_qutip():
    """2 x 2 cells, 8 sites, every bond of its own strength; the bonds as in Kitaev 2006, written out by hand."""
    network = kitaev_honeycomb(2, 2)
    rng = np.random.default_rng(4)
    params = {name: 1 + 0.3 * rng.normal(size=4) for name in ("Jx", "Jy", "Jz")}
    cells = [(0, 0), (0, 1), (1, 0), (1, 1)]  # (row, column); A site 2c, B site 2c + 1
    number = {cell: 2 * k for k, cell in enumerate(cells)}
    hamiltonian = 0
    for k, (row, column) in enumerate(cells):
        a = number[row, column]
        left, below = number[row, 1 - column] + 1, number[1 - row, column] + 1
        hamiltonian -= params["Jx"][k] * qutip_on(8, x=(a, left))
        hamiltonian -= params["Jy"][k] * qutip_on(8, y=(a, below))
        hamiltonian -= params["Jz"][k] * qutip_on(8, z=(a, a + 1))
    levels = hamiltonian.eigenenergies(eigvals=2)
    ground = qp.equilibrate(network, params, throw=False)
    assert float(ground.energy) == pytest.approx(levels[0], abs=1e-9)
    assert float(ground.gap) == pytest.approx(levels[1] - levels[0], rel=0.02, abs=1e-9)


# --- NetKet -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_netket_ground_state_and_gradient():
    """nk.operator.Ising(h, J) is -h sum X + J sum ZZ: positive J is antiferromagnetic there, negative here."""
    nk = pytest.importorskip("netket")
    graph = nk.graph.Square(2, pbc=False)
    hilbert = nk.hilbert.Spin(0.5, graph.n_nodes)
    field, coupling, step = 0.7, -0.9, 1e-4

    def loss(g: float, J: float) -> tuple[float, float]:
        operator = nk.operator.Ising(hilbert, graph, h=g, J=-J)
        energies, states = nk.exact.full_ed(operator, compute_eigenvectors=True)
        zz = (nk.operator.spin.sigmaz(hilbert, 0) @ nk.operator.spin.sigmaz(hilbert, 3)).to_dense()
        return energies[0], np.vdot(states[:, 0], zz @ states[:, 0]).real

    network = qp.TransverseFieldIsing(4, graph)
    params = {"J": np.full(4, -coupling), "h": np.zeros(4), "g": np.full(4, field)}
    out = qp.ep_gradient(network, params, qp.ObservableCost(qp.Z(0) * qp.Z(3)))
    energy, cost = loss(field, -coupling)
    assert float(out.free.energy) == pytest.approx(energy, abs=1e-9)
    assert float(out.loss) == pytest.approx(cost, abs=1e-9)
    by_g = (loss(field + step, -coupling)[1] - loss(field - step, -coupling)[1]) / (2 * step)
    by_j = (loss(field, -coupling + step)[1] - loss(field, -coupling - step)[1]) / (2 * step)
    assert abs(by_g) > 0.1
    assert out.grad["g"].sum() == pytest.approx(by_g, rel=1e-6)
    assert out.grad["J"].sum() == pytest.approx(by_j, rel=1e-6)


# --- exactly solved models --------------------------------------------------------------------------------------------


@given(n=st.sampled_from([2, 5, 9]), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_free_fermion_chain(n, seed):
    """Energy, gap, <X_i>, <Z_i Z_i+1> and the gradients of both, with a different J and g everywhere."""
    rng = np.random.default_rng(seed)
    exact = FreeFermions(rng.uniform(0.3, 0.9, n - 1), rng.uniform(0.8, 1.4, n))
    params, middle = {"J": exact.J, "h": np.zeros(n), "g": exact.g}, n // 2 - 1
    free = qp.equilibrate(chain(n), params)
    assert float(free.energy) == pytest.approx(exact.energy, abs=1e-9)
    assert float(free.gap) == pytest.approx(exact.gap, rel=0.02)
    x = free.state.expect_all([qp.X(i) for i in range(n)]).mean
    zz = free.state.expect_all([qp.Z(i) * qp.Z(i + 1) for i in range(n - 1)]).mean
    np.testing.assert_allclose(x, exact.x, atol=1e-9)
    np.testing.assert_allclose(zz, exact.zz, atol=1e-9)
    for cost, observable in (
        (qp.X(middle), lambda f: f.x[middle]),
        (qp.Z(middle) * qp.Z(middle + 1), lambda f: f.zz[middle]),
    ):
        expected = exact.gradient(observable)
        assert norm(expected) > 0.05
        for scheme, tolerance in ((None, 1e-5), (qp.LinearResponse(), 1e-7), (qp.centered(1e-3), 1e-4)):
            out = qp.ep_gradient(chain(n), params, qp.ObservableCost(cost), scheme=scheme)
            found = {name: out.grad[name] for name in ("J", "g")}
            assert deviation(found, expected) < tolerance
            assert norm({"h": out.grad["h"]}) < 1e-6, "parity forbids a response to h"


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 12])
def test_critical_open_chain(n):
    free = qp.equilibrate(chain(n), {"J": np.ones(n - 1), "h": np.zeros(n), "g": np.ones(n)})
    assert float(free.energy) == pytest.approx(1 - 1 / np.sin(np.pi / (2 * (2 * n + 1))), abs=1e-9)


@pytest.mark.parametrize("n", [3, 6, 9])
@pytest.mark.parametrize(("J", "g"), [(0.4, 1.0), (-0.7, 1.1)])
def test_periodic_chain(n, J, g):
    """E_0 = -sum_k sqrt(J^2 + g^2 - 2 J g cos k), k = (2m + 1) pi / N, when the even sector holds the ground state."""
    network = qp.TransverseFieldIsing(n, [(i, (i + 1) % n) for i in range(n)])
    free = qp.equilibrate(network, {"J": np.full(n, J), "h": np.zeros(n), "g": np.full(n, g)})
    k = (2 * np.arange(n) + 1) * np.pi / n
    assert float(free.energy) == pytest.approx(-np.sum(np.sqrt(J**2 + g**2 - 2 * J * g * np.cos(k))), abs=1e-9)


@pytest.mark.parametrize("n", [4, 7, 10])
@pytest.mark.parametrize("couplings", [(0.3, 0.4, 3.3), (0.5, 0.9, 2.6)], ids=str)
def test_cluster_ising_ring(n, couplings):
    """E_0 = -sum_k |g_X - g_ZZ e^(ik) + g_ZXZ e^(2ik)|, k = (2m + 1) pi / N; its derivatives are the mean terms."""
    network = cluster_ising(n)
    params = {name: np.array([g]) for name, g in zip(("g_ZXZ", "g_ZZ", "g_X"), couplings, strict=True)}

    def energy(zxz: float, zz: float, x: float) -> float:
        k = (2 * np.arange(n) + 1) * np.pi / n
        return float(-np.sum(np.abs(x - zz * np.exp(1j * k) + zxz * np.exp(2j * k))))

    free = qp.equilibrate(network, params)
    assert float(free.energy) == pytest.approx(energy(*couplings), abs=1e-9)
    forces = network.param_grad(params, free.state).mean
    for axis, name in enumerate(("g_ZXZ", "g_ZZ", "g_X")):
        unit = 1e-5 * np.eye(3)[axis]
        slope = (energy(*(couplings + unit)) - energy(*(couplings - unit))) / 2e-5
        assert forces[name][0] == pytest.approx(slope, abs=1e-7)


# --- reciprocity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all-to-all random", "XXZ ring with fields", "complex, with Y"])
@pytest.mark.parametrize("scheme", [qp.LinearResponse(), qp.richardson(1e-3)], ids=str)
def test_onsager_reciprocity(name, scheme):
    """d<O_k>/dtheta_j = d<O_j>/dtheta_k: the response matrix of the forces is symmetric (and negative semidefinite)."""
    case = BY_NAME[name]
    operators = [op for _, ops in case.system.terms for op in ops][:8]
    rows = []
    for operator in operators:
        grad = qp.ep_gradient(case.system, case.params, qp.ObservableCost(operator), scheme=scheme).grad
        rows.append(np.concatenate([grad[key] for key, _ in case.system.terms])[: len(operators)])
    matrix = np.array(rows)
    size = np.abs(matrix).max()
    assert size > 0.05
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6 * size)
    assert np.linalg.eigvalsh(matrix).max() < 1e-6 * size


def test_su2_symmetry_of_the_response():
    """In a singlet X0 X1, Y0 Y1 and Z0 Z1 respond alike to a change of whole bonds, and unlike to one of the Jz."""
    network = xxz(4, [(0, 1), (1, 2), (2, 3)])
    params = {"Jxy": np.array([1.0, 0.7, 0.9]), "Jz": np.array([1.0, 0.7, 0.9]), "h": np.zeros(4)}
    x, y, z = (
        qp.linear_response(network, params, qp.ObservableCost(pauli(0) * pauli(1))).grad for pauli in (qp.X, qp.Y, qp.Z)
    )
    bonds = {"x": x["Jxy"] + x["Jz"], "z": z["Jxy"] + z["Jz"]}
    assert norm({"z": bonds["z"]}) > 0.05
    np.testing.assert_allclose(bonds["x"], bonds["z"], atol=1e-9)
    assert deviation(x, y) < 1e-9
    assert deviation({"Jz": x["Jz"]}, {"Jz": z["Jz"]}) > 0.1
