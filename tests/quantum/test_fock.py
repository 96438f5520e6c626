"""Truncated oscillator bases: against Gaussian states, QuTiP, grids in space, and the literature."""

import itertools
from typing import Any

import numpy as np
import pytest
import qutip
import scipy.linalg

import qeqprop as qp
from qeqprop.quantum import FockSolver, FockSpace
from qeqprop.quantum.fock_basis import FockBasis, distance, operator, quartic

from ..measures import deviation, norm

ALL = ("k", "l", "kappa", "f", "m")
LENIENT = FockSolver(max_population=0.1)


def oscillator(*trainable: str, **options: Any) -> Any:
    return qp.HarmonicNetwork(1, [], trainable=trainable, **options)


def grid_levels(potential: Any, mass: float = 1.0, half: float = 8.0, points: int = 1201) -> np.ndarray:
    """Levels of p^2/2m + V(x) in a sinc basis on a grid: exponentially accurate, and no oscillator anywhere."""
    x, h = np.linspace(-half, half, points, retstep=True)
    n = np.arange(points)
    apart = n[:, None] - n
    kinetic = (-1.0) ** apart / np.where(apart, apart, 1) ** 2
    kinetic[n, n] = np.pi**2 / 6
    return scipy.linalg.eigh(kinetic / (mass * h**2) + np.diag(potential(x)), eigvals_only=True, subset_by_index=[0, 1])


# ---- operators ------------------------------------------------------------------------------------------------------


def test_operators_are_those_of_qutip():
    """r = center + width (a + a^+), p = i (hbar / 2 width) (a^+ - a), products cut after multiplication."""
    basis = FockBasis(2, 1, 5, 0.7, (0.3, -0.2), (0.5, 0.8))
    large = 9
    lower, unit = qutip.destroy(large), qutip.qeye(large)
    ladder = [qutip.tensor(lower, unit), qutip.tensor(unit, lower)]
    r = [c + w * (a + a.dag()) for c, w, a in zip(basis.center, basis.width, ladder, strict=True)]
    p = [0.35j / w * (a.dag() - a) for w, a in zip(basis.width, ladder, strict=True)]
    cut = [large * i + j for i in range(5) for j in range(5)]
    pairs = [
        (operator(basis, qp.R(0)), r[0]),
        (operator(basis, qp.P(1)), p[1]),
        (
            operator(basis, (qp.R(0) - qp.R(1) - 0.5) ** 2 + 0.3 * qp.P(0) ** 2),
            (r[0] - r[1] - 0.5) ** 2 + 0.3 * p[0] ** 2,
        ),
        (operator(basis, qp.P(0) * qp.P(1)), p[0] * p[1]),
        (quartic(basis, 1), r[1] ** 4),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.matrix.toarray(), theirs.full()[np.ix_(cut, cut)], atol=1e-13)


def test_quartic_in_the_plane():
    """(x^2 + y^2)^2."""
    basis = FockBasis(1, 2, 4, 1.0, (0.3, -0.1), (0.6, 0.8))
    wide = FockBasis(1, 2, 9, 1.0, (0.3, -0.1), (0.6, 0.8))
    square = operator(wide, qp.R(0, 0) ** 2 + qp.R(0, 1) ** 2).matrix.toarray()
    cut = [9 * i + j for i in range(4) for j in range(4)]
    np.testing.assert_allclose(quartic(basis, 0).matrix.toarray(), (square @ square)[np.ix_(cut, cut)], atol=1e-13)


def test_distances_by_another_quadrature():
    """<ab| |r_0 - r_1| |cd> in the plane, nodes apart, against sums over a grid of wave functions."""
    center, width = (-1.5, 0.2, 1.6, -0.1), (0.3, 0.35, 0.25, 0.3)
    ours = distance(FockBasis(2, 2, 2, 1.0, center, width), 0, 1).matrix.toarray()
    axes, waves = [], []
    for c, w in zip(center, width, strict=True):
        x, h = np.linspace(c - 8 * w, c + 8 * w, 31, retstep=True)
        ground = np.exp(-((x - c) ** 2) / (4 * w**2)) * np.sqrt(h) / (2 * np.pi * w**2) ** 0.25
        axes.append(x)
        waves.append(np.stack([ground, (x - c) / w * ground]))
    a, b, c, d = np.meshgrid(*axes, indexing="ij", sparse=True)
    length = np.sqrt((a - c) ** 2 + (b - d) ** 2)
    for wave in waves:
        length = np.einsum("x...,ix,jx->...ij", length, wave, wave)
    theirs = length.transpose(0, 2, 4, 6, 1, 3, 5, 7).reshape(16, 16)
    assert np.abs(theirs - np.diag(np.diag(theirs))).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_nodes_in_between_are_left_alone():
    three = FockBasis(3, 1, 4, 1.0, (-1.0, 0.0, 1.0), (0.4, 0.5, 0.6))
    pair = distance(FockBasis(2, 1, 4, 1.0, (-1.0, 1.0), (0.4, 0.6)), 0, 1).matrix.toarray().reshape([4] * 4)
    ours = distance(three, 2, 0).matrix.toarray()
    theirs = np.einsum("acbd,mn->amcbnd", pair, np.eye(4)).reshape(64, 64)
    np.testing.assert_allclose(ours, theirs, atol=1e-13)


# ---- harmonic networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [None, 0.25])
@pytest.mark.parametrize(
    "cost",
    [qp.ObservableCost((qp.R(1) - 0.5) ** 2 + 0.3 * qp.P(0) ** 2), qp.ObservableCost(qp.R(0) * qp.R(1) + qp.R(0))],
    ids=["square", "product"],
)
def test_harmonic_pair(cost, temperature):
    """All parameters, masses and offsets included, as the Gaussian state has them."""
    net = qp.HarmonicNetwork(2, [(0, 1)], hbar=0.8, trainable=ALL)
    params, fock = net.init_params(2), FockSpace(net, 18)
    gaussian = qp.GaussianGroundState() if temperature is None else qp.GibbsState(temperature)
    truncated = FockSolver() if temperature is None else FockSolver(qp.GibbsState(temperature))
    exact = qp.linear_response(net, params, cost, solver=gaussian)
    ours = qp.ep_gradient(fock, params, cost, solver=truncated)
    assert isinstance(ours.scheme, qp.LinearResponse)
    assert norm(exact.grad) > 0.1
    assert deviation(ours.grad, exact.grad) < 1e-8
    assert float(ours.free.energy) == pytest.approx(float(exact.free.energy), abs=1e-10)
    nudged = qp.ep_gradient(fock, params, cost, solver=truncated, scheme=qp.richardson(5e-3))
    assert deviation(nudged.grad, exact.grad) < 1e-7
    expected = fock.energy(params, ours.free.state)
    assert float(expected) == pytest.approx(float(net.energy(params, exact.free.state)), abs=1e-10)


def test_three_nodes_and_a_batch_of_inputs():
    net = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], trainable=("k", "l", "kappa", "f"), input_sites=[0])
    params, cost = net.init_params(4), qp.ExpectationCost([qp.R(2), qp.R(1) ** 2])
    x, y = np.array([[0.3], [-0.4]]), np.array([[0.2, 0.1], [-0.3, 0.4]])
    rest = np.linalg.solve(net.hamiltonian(params).stiffness.toarray(), net.hamiltonian(params).force)
    fock = FockSpace(net, 13, center=rest, width=0.55)
    exact = qp.ep_gradient(net, params, cost, y, inputs=x)
    ours = qp.ep_gradient(fock, params, cost, y, inputs=x, solver=FockSolver(max_population=1e-6))
    assert norm(exact.grad) > 0.1
    assert deviation(ours.grad, exact.grad) < 1e-6
    single = qp.ep_gradient(fock, params, cost, y[1], inputs=x[1], solver=FockSolver(max_population=1e-6))
    assert float(single.loss) == pytest.approx(ours.losses[1], abs=1e-12)


def test_energies_come_from_above_and_converge():
    net = qp.HarmonicNetwork(2, [(0, 1)], trainable=ALL)
    params = net.init_params(2)
    exact = float(qp.equilibrate(net, params).energy)
    errors = [float(qp.equilibrate(FockSpace(net, n), params, solver=LENIENT).energy) - exact for n in (7, 9, 11, 13)]
    assert min(errors) > 0
    assert all(later < 0.5 * earlier for earlier, later in itertools.pairwise(errors))


def test_nothing_depends_on_the_basis():
    net, cost = oscillator("kappa", "f", "m"), qp.ObservableCost((qp.R(0) - 0.5) ** 2)
    params = {"kappa": [1.0], "f": [0.8], "m": [1.3], "quartic": [0.2]}
    grads = [
        qp.ep_gradient(FockSpace(net, 40, trainable=("quartic",), center=c, width=w), params, cost).grad
        for c, w in ((0.0, None), (0.6, 0.5), (-0.3, 0.8))
    ]
    assert all(norm({name: value}) > 0.01 for name, value in grads[0].items())
    assert deviation(grads[1], grads[0]) < 1e-9
    assert deviation(grads[2], grads[0]) < 1e-7


# ---- anharmonic terms -----------------------------------------------------------------------------------------------


def test_quartic_oscillator():
    """p^2/2 + x^4: E_0 = 0.667986259155777 (Hioe and Montroll 1975); d<x^2>/dc = -<x^2>/3 by scaling."""
    fock = FockSpace(oscillator("kappa"), 50, trainable=("quartic",), width=0.5)
    out = qp.ep_gradient(fock, {"kappa": [0.0], "quartic": [1.0]}, qp.ObservableCost(qp.R(0) ** 2))
    assert float(out.free.energy) == pytest.approx(0.667986259155777, abs=1e-12)
    assert out.grad["quartic"][0] == pytest.approx(-float(out.loss) / 3, abs=1e-9)
    assert out.free.stats["edge_population"] < 1e-15


@pytest.mark.parametrize("hbar", [0.6, 1.0])
def test_double_well(hbar):
    """Ground state, gap and thermal energy against a grid in space."""
    kappa, f, c, m = -1.5, 0.1, 0.4, 1.2
    levels = grid_levels(lambda x: 0.5 * kappa * x**2 + c * x**4 - f * x, mass=m / hbar**2)
    fock = FockSpace(oscillator("kappa", "f", "m", hbar=hbar), 48, fixed={"quartic": c}, width=0.55)
    ground = qp.equilibrate(fock, {"kappa": [kappa], "f": [f], "m": [m]})
    assert float(ground.energy) == pytest.approx(levels[0], abs=1e-9)
    assert float(ground.gap) == pytest.approx(levels[1] - levels[0], abs=1e-9)
    mean = ground.state.expect(qp.R(0)), ground.state.expect(fock.operator(qp.R(0)))
    assert float(mean[0]) == float(mean[1]) > 0.01


def test_quartic_chain_against_finite_differences():
    net = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "l", "f"), fixed={"kappa": [-0.5, 0.3]})
    fock = FockSpace(net, 18, trainable=("quartic",), width=0.6)
    params = net.init_params(5) | {"quartic": np.array([0.4, 0.3])}
    check = qp.check_gradient(fock, params, qp.ObservableCost((qp.R(1) - 0.5) ** 2 + qp.R(0)), step=5e-3)
    assert check.agrees, check
    assert all(norm({name: value}) > 0.01 for name, value in check.ep.grad.items())
    assert "linear response" in check.references


def test_central_spring_on_a_line():
    """Where the nodes never pass one another |r_0 - r_1| = r_1 - r_0: the harmonic spring of offset -length."""
    pull, length = 6.0, 3.0
    stiff = np.array([[3.0, -2.0], [-2.0, 3.2]])
    center = np.linalg.solve(stiff, [-pull - 2 * length, pull + 2 * length])
    options = {"fixed": {"f": [-pull, pull]}}
    shared, cost = {"k": [2.0], "kappa": [1.0, 1.2]}, qp.ObservableCost((qp.R(1) - 0.5) ** 2)
    plain = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "l", "kappa"), **options)
    fock = FockSpace(
        qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "kappa"), **options),
        14,
        trainable="length",
        center=center,
        width=0.53,
    )
    exact = qp.linear_response(plain, shared | {"l": [-length]}, cost)
    ours = qp.linear_response(fock, shared | {"length": [length]}, cost)
    assert ours.grad["length"] == pytest.approx(-exact.grad["l"], rel=1e-9)
    assert ours.grad["k"] == pytest.approx(exact.grad["k"], rel=1e-9)
    assert float(ours.free.energy) == pytest.approx(float(exact.free.energy), abs=1e-10)


def test_central_spring_in_the_plane_separates():
    """Equal nodes: the centre of mass is harmonic, the distance obeys a radial equation, solved on a grid."""
    k, kappa, length, n, far = 0.5, 2.0, 0.8, 8000, 8.0
    r, walls = (np.arange(n) + 0.5) * far / n, np.arange(1, n) * far / n
    potential = 0.5 * k * (r - length) ** 2 + 0.25 * kappa * r**2
    diagonal = (np.append(walls, far) + np.insert(walls, 0, 0.0)) / r * (n / far) ** 2 + potential
    off = -walls / np.sqrt(r[:-1] * r[1:]) * (n / far) ** 2
    radial = scipy.linalg.eigvalsh_tridiagonal(diagonal, off, select="i", select_range=(0, 0))[0]
    net = qp.HarmonicNetwork(2, [(0, 1)], components=2, trainable=("k", "kappa"))
    fock = FockSpace(net, 6, trainable=("length",), width=0.55)
    params = {"k": np.array([k]), "kappa": np.array([kappa, kappa]), "length": np.array([length])}
    solver = FockSolver(max_population=1e-5)
    ground = qp.equilibrate(fock, params, solver=solver)
    harmonic = qp.equilibrate(net, {"k": [k], "kappa": [kappa, kappa]})
    assert float(harmonic.energy) - (radial + np.sqrt(kappa)) > 0.1  # what the rest length changes
    assert float(ground.energy) == pytest.approx(radial + np.sqrt(kappa), abs=1e-3)  # the nodes meet: a kink


# ---- the edge of the basis ------------------------------------------------------------------------------------------


def test_edges_are_watched():
    """A coherent state of amplitude alpha has Poisson populations: the two highest levels, of every oscillator."""
    net = qp.HarmonicNetwork(2, [], trainable=("f",), fixed={"kappa": 1.0})
    params, levels = {"f": [0.0, 1.0]}, 12
    ground = qp.equilibrate(FockSpace(net, levels), params)
    alpha = 0.5  # <r>^2 / 2
    poisson = [np.exp(-alpha) * alpha**n / np.prod(np.arange(1.0, n + 1)) for n in (levels - 2, levels - 1)]
    edge = ground.state.edge_populations()
    assert edge[0] < 1e-25
    assert edge[1] == pytest.approx(sum(poisson), rel=0.02)
    assert ground.stats["edge_population"] == edge[1]
    assert "edge_population" in repr(ground)


def test_parity_hides_nothing():
    """In an even potential every second level is empty, whichever is the highest."""
    edges = [
        qp.equilibrate(FockSpace(oscillator("kappa"), n, width=0.4), {"kappa": [1.0]}, solver=LENIENT).stats[
            "edge_population"
        ]
        for n in (8, 9)
    ]
    assert min(edges) > 1e-5


def test_a_basis_too_small_is_refused():
    fock = FockSpace(oscillator("kappa", "f"), 8)
    params, cost = {"kappa": [1.0], "f": [2.0]}, qp.ObservableCost(qp.R(0) ** 2)
    with pytest.raises(
        qp.EquilibriumError, match=r"basis too small: free phase.*Keep more `levels`.*`center`.*`width`"
    ):
        qp.ep_gradient(fock, params, cost)
    out = qp.ep_gradient(fock, params, cost, throw=False)
    assert out.status is qp.Status.BASIS_TOO_SMALL
    assert out.free.stats["edge_population"] > 1e-4
    assert qp.ep_gradient(fock, params, cost, solver=LENIENT).status is qp.Status.OK
    moved = FockSpace(oscillator("kappa", "f"), 8, center=2.0)
    assert qp.ep_gradient(moved, params, cost).status is qp.Status.OK
    with pytest.raises(qp.EquilibriumError, match="basis too small"):
        qp.ep_gradient(moved, params, cost, scheme=qp.centered(0.3))  # a nudged phase


# ---- states, printing, refusals -------------------------------------------------------------------------------------


def test_costs_may_be_matrices():
    """A quartic cost is no polynomial of degree two, but a matrix all the same: <r^4> = 3 <r^2>^2."""
    fock = FockSpace(oscillator("kappa"), 30)
    fourth = qp.ObservableCost(quartic(fock.basis, 0))
    out = qp.ep_gradient(fock, {"kappa": [1.0]}, fourth)
    assert float(out.loss) == pytest.approx(0.75, abs=1e-12)
    assert out.grad["kappa"][0] == pytest.approx(-0.75, abs=1e-9)  # 3 / (4 kappa)


def test_the_same_problem_as_an_operator_system():
    net = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "f"), fixed={"kappa": 1.0})
    fock, params = FockSpace(net, 14), {"k": np.array([0.7]), "f": np.array([0.2, -0.1])}
    system, coefficients = fock.operator_system(), fock.coefficients(params)
    cost = qp.ObservableCost(fock.operator(qp.R(0) ** 2))
    theirs = qp.ep_gradient(system, coefficients, cost, scheme=qp.LinearResponse())
    ours = qp.ep_gradient(fock, params, qp.ObservableCost(qp.R(0) ** 2))
    assert ours.grad["f"] == pytest.approx(theirs.grad["force"], abs=1e-12)
    assert ours.grad["k"] == pytest.approx(theirs.grad["stretch"], abs=1e-12)
    assert norm(ours.grad) > 0.05


def test_printing_and_saving(tmp_path):
    fock = FockSpace(oscillator("kappa"), 20, trainable=("quartic",))
    assert repr(fock) == "FockSpace(FockBasis(1 oscillators of 20 levels), dim=20, parameters kappa (1,), quartic (1,))"
    assert set(fock.init_params(0)) == {"kappa", "quartic"}
    out = qp.ep_gradient(fock, {"kappa": [1.0], "quartic": [0.1]}, qp.ObservableCost(qp.R(0) ** 2))
    again = qp.load(qp.save(tmp_path / "gradient", out))
    assert repr(again) == repr(out)
    assert float(again.free.state.expect(qp.P(0) ** 2)) == float(out.free.state.expect(qp.P(0) ** 2))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"levels": 2}, ValueError, "`levels` must be at least 3"),
        ({"trainable": ("cubic",)}, ValueError, "distinct names among"),
        ({"trainable": ("quartic",), "fixed": {"quartic": 1.0}}, ValueError, "distinct names among"),
        ({"fixed": {"quartic": [1.0]}}, ValueError, r"`quartic` must have shape \(2,\)"),
        ({"trainable": ("length",)}, ValueError, "offsets l as well"),
        ({"width": -1.0}, ValueError, "`width` must be positive"),
        ({"center": [1.0, 2.0, 3.0]}, ValueError, r"`center` must be a scalar or have shape \(2,\) or \(2, 1\)"),
        ({"levels": 10**6}, MemoryError, "Fock space of dimension 1000000000000 needs"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(options, error, message):
    net = qp.HarmonicNetwork(2, [(0, 1)])
    with pytest.raises(error, match=message):
        FockSpace(net, **({"levels": 6} | options))


def test_refusals():
    with pytest.raises(TypeError, match="must be a HarmonicNetwork, but is TransverseFieldIsing"):
        FockSpace(qp.TransverseFieldIsing(1, []), 5)
    with pytest.raises(ValueError, match="must have hbar > 0"):
        FockSpace(oscillator("kappa", hbar=0.0), 5)
    with pytest.raises(TypeError, match="must be an exact solver of operator systems"):
        FockSolver("exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`max_population` must lie between 0 and 1"):
        FockSolver(max_population=0.0)
    fock = FockSpace(oscillator("kappa", "m"), 12)
    params = {"kappa": [1.0], "m": [1.0]}
    with pytest.raises(TypeError, match="FockSolver solves a FockSpace, not HarmonicNetwork"):
        qp.equilibrate(oscillator("kappa"), {"kappa": [1.0]}, solver=FockSolver())
    with pytest.raises(TypeError, match="not FockSpace"):
        qp.equilibrate(fock, params, solver=qp.ExactDiagonalization())
    with pytest.raises(ValueError, match=r"`m` must be positive, but is -1\.0 at site 0"):
        qp.equilibrate(fock, {"kappa": [1.0], "m": [-1.0]})
    with pytest.raises(TypeError, match=r"polynomial in R\(i\) and P\(i\) or a MatrixOperator, not PauliSum"):
        qp.ep_gradient(fock, params, qp.ObservableCost(qp.Z(0)))
    with pytest.raises(ValueError, match="acts on site 1, component 0, but there are 1 sites"):
        qp.ep_gradient(fock, params, qp.ObservableCost(qp.R(1)))
    with pytest.raises(ValueError, match="cannot follow complex nudges"):
        qp.ep_gradient(fock, params, qp.ObservableCost(qp.R(0)), scheme=qp.holomorphic(0.1))
