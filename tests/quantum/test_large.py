"""Above 14 bits: matrix-free Lanczos, conjugate gradients and moments, against answers known by other means."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import exact, exact_spins, states

from ..free_cases import FreeFermions
from ..measures import deviation, norm
from ..oracle import name_of
from ..registry import BY_NAME
from .chains import chain

HALF = 8


def random_chain(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"J": rng.uniform(0.3, 0.9, n - 1), "h": 0.3 * rng.normal(size=n), "g": rng.uniform(0.8, 1.4, n)}


# --- 16 spins whose answers are those of 8 ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halves():
    """Two networks of 8 spins, side by side as one of 16: the state is a product, the gap the smaller of the two."""
    edges = [(i, i + 1) for i in range(HALF - 1)] + [(0, 4), (2, 7)]
    rng = np.random.default_rng(1)
    params = [
        {"J": rng.normal(size=9) / 2, "h": 0.3 + 0.3 * rng.normal(size=HALF), "g": rng.uniform(0.8, 1.4, HALF)}
        for _ in range(2)
    ]
    both = edges + [(i + HALF, j + HALF) for i, j in edges]
    joined = {name: np.concatenate([params[0][name], params[1][name]]) for name in params[0]}
    return qp.TransverseFieldIsing(HALF, edges), params, qp.TransverseFieldIsing(2 * HALF, both), joined


def test_two_halves_energy_gap_and_state(halves):
    small, (left, right), large, joined = halves
    one, two, both = qp.equilibrate(small, left), qp.equilibrate(small, right), qp.equilibrate(large, joined)
    assert both.stats["method"] == "matrix-free Lanczos"
    assert float(both.energy) == pytest.approx(float(one.energy) + float(two.energy), abs=1e-9)
    assert float(both.gap) == pytest.approx(min(float(one.gap), float(two.gap)), rel=0.03)
    product = np.kron(one.state.amplitudes, two.state.amplitudes)
    assert abs(product @ both.state.amplitudes) == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("scheme", [qp.LinearResponse(), None, qp.one_sided(0.03), qp.richardson(0.03)], ids=str)
def test_two_halves_gradient(halves, scheme):
    """A cost on one half has the gradient of that half, and none on the other."""
    small, (left, right), large, joined = halves
    near, far = qp.Z(3) + 0.5 * qp.X(1) * qp.X(2), qp.Z(3 + HALF) + 0.5 * qp.X(1 + HALF) * qp.X(2 + HALF)
    exact_scheme = scheme is None or not isinstance(scheme, qp.Stencil)
    for side, (cost, params) in enumerate(((near, left), (far, right))):
        out = qp.ep_gradient(large, joined, qp.ObservableCost(cost), scheme=scheme)
        own = qp.LinearResponse() if exact_scheme else scheme
        expected = qp.ep_gradient(small, params, qp.ObservableCost(near), scheme=own)
        parts = {name: np.split(value, 2) for name, value in out.grad.items()}
        assert norm(expected.grad) > 0.1
        assert deviation({name: value[side] for name, value in parts.items()}, expected.grad) < 1e-5
        assert norm({name: value[1 - side] for name, value in parts.items()}) < 1e-5
        assert out.status is qp.Status.OK


def test_error_signal_through_the_large_path(halves):
    small, (left, _), large, joined = halves
    nudge = qp.ExpectationCost([qp.Z(0), qp.Z(5)], qp.cross_entropy)
    expected = qp.linear_response(small, left, nudge, [0.0, 1.0])
    out = qp.ep_gradient(large, joined, nudge, [0.0, 1.0])
    assert float(out.loss) == pytest.approx(float(expected.loss), abs=1e-9)
    assert deviation({name: np.split(value, 2)[0] for name, value in out.grad.items()}, expected.grad) < 1e-5


def test_batch_of_large_systems_goes_one_by_one():
    network = qp.TransverseFieldIsing(15, [(i, i + 1) for i in range(14)], input_sites=[0])
    params, nudge = random_chain(15), qp.ExpectationCost([qp.Z(3)])
    out = qp.linear_response(network, params, nudge, [[0.1], [0.9]], inputs=[[0.5], [-0.5]])
    singles = [qp.linear_response(network, params, nudge, y, inputs=x) for x, y in (([0.5], [0.1]), ([-0.5], [0.9]))]
    mean = {name: (singles[0].grad[name] + singles[1].grad[name]) / 2 for name in out.grad}
    assert out.losses.shape == (2,)
    assert deviation(out.grad, mean) < 1e-10


# --- free fermions and finite differences -----------------------------------------------------------------------------


@pytest.mark.parametrize("cost", ["X", "ZZ"])
def test_free_fermions_at_16_spins(cost):
    n, site = 16, 7
    params = random_chain(n, 5) | {"h": np.zeros(n)}
    known = FreeFermions(params["J"], params["g"])
    operator = qp.X(site) if cost == "X" else qp.Z(site) * qp.Z(site + 1)
    expected = known.gradient(lambda f: (f.x if cost == "X" else f.zz)[site])
    free = qp.equilibrate(chain(n), params)
    assert float(free.energy) == pytest.approx(known.energy, abs=1e-9)
    assert float(free.gap) == pytest.approx(known.gap, rel=0.03)
    for scheme, tolerance in ((qp.LinearResponse(), 1e-7), (None, 1e-5), (qp.richardson(0.02), 1e-4)):
        out = qp.ep_gradient(chain(n), params, qp.ObservableCost(operator), scheme=scheme, init=free)
        assert deviation({name: out.grad[name] for name in expected}, expected) < tolerance
        assert norm({"h": out.grad["h"]}) < 1e-5, "parity forbids a response to h"


@pytest.mark.parametrize("n", [15, 16])
def test_critical_chain(n):
    free = qp.equilibrate(chain(n), {"J": np.ones(n - 1), "h": np.zeros(n), "g": np.ones(n)})
    assert float(free.energy) == pytest.approx(1 - 1 / np.sin(np.pi / (2 * (2 * n + 1))), abs=1e-9)


def test_linear_response_against_finite_differences():
    params, cost = random_chain(15), qp.ObservableCost(qp.Z(4) + qp.X(9))
    chosen = {"J": [4], "h": [5], "g": [9]}
    response = qp.linear_response(chain(15), params, cost).grad
    differences = qp.finite_difference(chain(15), params, cost, components=chosen)
    assert min(abs(response[name][k]) for name, (k,) in chosen.items()) > 0.01
    assert deviation(differences.grad, response) < 1e-6


@pytest.fixture(scope="module")
def with_y():
    """15 spins with one Y: a complex Hamiltonian, 16 bits."""
    n, params = 15, random_chain(15, 2)
    terms = {name: list(operators) for name, operators in chain(n).terms}
    return qp.SpinNetwork(n, terms | {"y": [qp.Y(3) * qp.Z(4), qp.Y(7)]}), params | {"y": np.array([0.6, -0.5])}


def test_complex_hamiltonian(with_y):
    """The gap above the doublet of the realified level, the response against finite differences, and the default."""
    system, params = with_y
    free = qp.equilibrate(system, params)
    assert np.iscomplexobj(free.state.amplitudes)
    assert float(free.gap) > 0.1, "the doublet of a realified level is no degeneracy"
    cost = qp.ObservableCost(qp.Y(7) * qp.X(8) + qp.Z(3))
    response = qp.linear_response(system, params, cost, init=free)
    differences = qp.finite_difference(system, params, cost, components={"y": [0, 1], "g": [3]})
    assert abs(response.grad["y"]).min() > 0.005
    assert deviation(differences.grad, response.grad) < 1e-6
    nudged = qp.ep_gradient(system, params, cost, init=free)
    assert nudged.status is qp.Status.OK
    assert deviation(nudged.grad, response.grad) < 1e-5


def test_rotation_makes_a_complex_hamiltonian_real():
    """A field g (cos a X + sin a Y) on one site has the energy, gap and <Z> of a field g X."""
    n, params = 15, random_chain(15, 3)
    system = qp.SpinNetwork(n, {name: list(operators) for name, operators in chain(n).terms} | {"y": [-qp.Y(6)]})
    turned = {**params, "g": params["g"].copy(), "y": np.array([params["g"][6] * 0.8])}
    turned["g"][6] *= 0.6
    real, complex_ = qp.equilibrate(chain(n), params), qp.equilibrate(system, turned)
    assert float(complex_.energy) == pytest.approx(float(real.energy), abs=1e-9)
    assert float(complex_.gap) == pytest.approx(float(real.gap), rel=0.03)
    zs = [qp.Z(i) for i in range(n)]
    np.testing.assert_allclose(complex_.state.expect_all(zs).mean, real.state.expect_all(zs).mean, atol=1e-8)


def test_nudged_phases_start_warm_and_stay_on_the_branch():
    params = random_chain(16, 4)
    free = qp.equilibrate(chain(16), params)
    out = qp.ep_gradient(chain(16), params, qp.ObservableCost(qp.Z(8)), scheme=qp.centered(0.01), init=free)
    for _, phase in out.nudged:
        assert phase.gap is None, "nudged phases skip the gap"
        assert float(phase.state.overlap(out.free.state)) > 0.999
        assert phase.stats["matvecs"] < free.stats["matvecs"]
    assert out.free.stats["matvecs"] < free.stats["matvecs"], "a converged state costs no search"


def test_degenerate_ground_state_is_refused():
    n = 15
    params = {"J": np.ones(n - 1), "h": np.zeros(n), "g": np.full(n, 0.05)}
    with pytest.raises(qp.EquilibriumError, match="symmetry-breaking field") as error:
        qp.equilibrate(chain(n), params)
    assert error.value.status is qp.Status.DEGENERATE


def test_cost_that_has_the_ground_state_as_eigenvector():
    """Its gradient is zero and found, not an unconverged equation: a constant, and the Hamiltonian itself."""
    n = 15
    params = {"J": np.ones(n - 1), "h": np.full(n, 0.2), "g": np.ones(n)}
    bonds = [-(qp.Z(i) * qp.Z(i + 1)) for i in range(n - 1)]
    energy = sum((-0.2 * qp.Z(i) - qp.X(i) for i in range(n)), sum(bonds, qp.PauliSum()))
    for cost in (3.0 * qp.identity(), energy, energy + 5.0):
        out = qp.linear_response(chain(n), params, qp.ObservableCost(cost))
        assert norm(out.grad) < 1e-8


def test_unconverged_solve_is_refused():
    with pytest.raises(qp.EquilibriumError, match="Raise `max_iterations`"):
        qp.equilibrate(chain(15), random_chain(15), solver=qp.ExactDiagonalization(max_iterations=2))


def test_little_memory_gives_the_same_answer():
    """With room for no Krylov basis the solver takes another way to the same state."""
    params, vector = random_chain(16, 6), 8 * 2**16
    plenty = qp.equilibrate(chain(16), params)
    scarce = qp.equilibrate(chain(16), params, solver=qp.ExactDiagonalization(memory=10 * vector))
    assert float(scarce.energy) == pytest.approx(float(plenty.energy), abs=1e-9)
    assert float(scarce.state.overlap(plenty.state)) == pytest.approx(1.0, abs=1e-10)


def test_threads_change_nothing_but_time():
    params = random_chain(16, 7)
    one, two = (
        qp.linear_response(chain(16), params, qp.ObservableCost(qp.Z(0)), solver=qp.ExactDiagonalization(threads=t))
        for t in (1, 2)
    )
    assert deviation(one.grad, two.grad) < 1e-9


def test_holomorphic_nudges_without_a_matrix():
    params = random_chain(15)
    expected = qp.linear_response(chain(15), params, qp.ObservableCost(qp.Z(7)))
    scheme = qp.holomorphic(0.05 * float(expected.free.gap), n_points=4)
    out = qp.ep_gradient(chain(15), params, qp.ObservableCost(qp.Z(7)), scheme=scheme)
    assert deviation(out.grad, expected.grad) < 1e-5


# --- the registry through the large path ------------------------------------------------------------------------------


@pytest.fixture
def matrix_free(monkeypatch):
    """Send systems of any size through the path for large ones."""
    for module in (exact, exact_spins, states):
        monkeypatch.setattr(module, "MAX_BITS", 0)


# The kernels work on blocks of five bits, and take one system at a time.
LARGE_ENOUGH = ["all-to-all random", "XXZ ring with fields", "cluster-Ising ring"]


@pytest.mark.usefixtures("matrix_free")
@pytest.mark.parametrize("case", [BY_NAME[name] for name in LARGE_ENOUGH], ids=name_of)
def test_registry_through_the_large_path(case):
    out = qp.linear_response(*case.problem)
    assert out.free.stats["method"] == "matrix-free Lanczos"
    np.testing.assert_allclose(out.free.energy.mean, case.exact.energies[0], atol=1e-9)
    np.testing.assert_allclose(out.free.gap, case.exact.gaps[0], rtol=0.03)
    assert deviation(out.grad, case.exact.grad) < 1e-8
    nudged = qp.ep_gradient(*case.problem)
    assert deviation(nudged.grad, case.exact.grad) < 1e-5
