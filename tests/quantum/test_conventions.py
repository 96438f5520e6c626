"""The one test that pins all conventions: signs, site order, spin up first, Pauli matrices, each edge once, Y.

The same Hamiltonian is written in the language of each package, with a different number on every site and edge:

    H = - sum_(ij) J_ij Z_i Z_j - sum_i h_i Z_i - sum_i g_i X_i + y Y_2
"""

import functools
import itertools

import numpy as np
import pytest

from qeqprop.quantum.pauli import PauliSum, X, Y, Z

N_SITES = 4
COUPLINGS = {(0, 1): 0.31, (1, 2): -0.73, (2, 3): 1.13, (0, 2): -0.47, (1, 3): 0.59}
FIELDS = [0.23, -0.41, 0.67, 0.83]
TRANSVERSE = [1.09, 0.37, -0.53, 0.71]
Y_FIELD = 0.29

HAMILTONIAN = (
    -sum((J * Z(i) * Z(j) for (i, j), J in COUPLINGS.items()), PauliSum())
    - sum((h * Z(i) for i, h in enumerate(FIELDS)), PauliSum())
    - sum((g * X(i) for i, g in enumerate(TRANSVERSE)), PauliSum())
    + Y_FIELD * Y(2)
)


def kron_matrix() -> np.ndarray:
    """The Hamiltonian from Kronecker products, site 0 on the left, up = (1, 0)."""
    x, y, z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])

    def on(matrix: np.ndarray, site: int) -> np.ndarray:
        return functools.reduce(np.kron, [matrix if i == site else np.eye(2) for i in range(N_SITES)])

    matrix = Y_FIELD * on(y, 2)
    for (i, j), J in COUPLINGS.items():
        matrix = matrix - J * on(z, i) @ on(z, j)
    for i in range(N_SITES):
        matrix = matrix - FIELDS[i] * on(z, i) - TRANSVERSE[i] * on(x, i)
    return matrix


def in_numpy(state):
    matrix = HAMILTONIAN.to_dense(N_SITES)
    sparse = HAMILTONIAN.to_scipy(N_SITES)
    return matrix, sparse.toarray(), np.vdot(state, sparse @ state).real


def in_qutip(state):
    qutip = pytest.importorskip("qutip")

    def on(matrix, site):
        return qutip.tensor([matrix if i == site else qutip.qeye(2) for i in range(N_SITES)])

    native = Y_FIELD * on(qutip.sigmay(), 2)
    for (i, j), J in COUPLINGS.items():
        native -= J * on(qutip.sigmaz(), i) * on(qutip.sigmaz(), j)
    for i in range(N_SITES):
        native -= FIELDS[i] * on(qutip.sigmaz(), i) + TRANSVERSE[i] * on(qutip.sigmax(), i)
    ket = qutip.Qobj(state[:, None], dims=[[2] * N_SITES, [1] * N_SITES])
    converted = HAMILTONIAN.to_qutip(N_SITES)
    np.testing.assert_allclose(PauliSum.from_qutip(native).to_dense(N_SITES), converted.full(), atol=1e-14)
    return native.full(), converted.full(), qutip.expect(converted, ket)


def in_netket(state):
    netket = pytest.importorskip("netket")
    space = netket.hilbert.Spin(0.5, N_SITES)
    sx, sy, sz = (getattr(netket.operator.spin, f"sigma{axis}") for axis in "xyz")
    native = Y_FIELD * sy(space, 2)
    for (i, j), J in COUPLINGS.items():
        native = native - J * sz(space, i) @ sz(space, j)
    for i in range(N_SITES):
        native = native - FIELDS[i] * sz(space, i) - TRANSVERSE[i] * sx(space, i)
    # Samples are Z eigenvalues, listed in the order of the basis.
    samples = space.all_states()
    for i in range(N_SITES):
        np.testing.assert_array_equal(np.diag(samples[:, i]), Z(i).to_dense(N_SITES))
    converted = HAMILTONIAN.to_netket(N_SITES, space)
    # The local energies, as in variational Monte Carlo.
    connected, elements = converted.get_conn_padded(samples)
    local = (elements * state[space.states_to_numbers(connected)]).sum(axis=-1) / state
    np.testing.assert_allclose(PauliSum.from_netket(native).to_dense(N_SITES), converted.to_dense(), atol=1e-14)
    return native.to_dense(), converted.to_dense(), (np.abs(state) ** 2 @ local).real


def in_quspin(state):
    basis_module = pytest.importorskip("quspin.basis")
    operators = pytest.importorskip("quspin.operators")
    basis = basis_module.spin_basis_1d(N_SITES, pauli=1)
    quiet = {"check_herm": False, "check_symm": False, "check_pcon": False, "dtype": np.complex128, "basis": basis}
    static = [
        ["zz", [[-J, i, j] for (i, j), J in COUPLINGS.items()]],
        ["z", [[-h, i] for i, h in enumerate(FIELDS)]],
        ["x", [[-g, i] for i, g in enumerate(TRANSVERSE)]],
        ["y", [[Y_FIELD, 2]]],
    ]
    native = operators.hamiltonian(static, [], **quiet)
    converted = operators.hamiltonian(HAMILTONIAN.to_quspin(N_SITES), [], **quiet)
    return native.toarray(), converted.toarray(), converted.expt_value(state).real


def in_dimod(state):
    """Only the diagonal: dimod's energy is + h s + J s s."""
    dimod = pytest.importorskip("dimod")
    model = dimod.BinaryQuadraticModel(
        {i: -h for i, h in enumerate(FIELDS)}, {edge: -J for edge, J in COUPLINGS.items()}, 0.0, "SPIN"
    )
    spins = np.array(list(itertools.product([1, -1], repeat=N_SITES)))
    energies = model.energies((spins, list(range(N_SITES))))
    full = HAMILTONIAN.to_dense(N_SITES)
    rest = full - np.diag(np.diag(full))
    native = np.diag(energies) + rest
    return native, full, np.abs(state) ** 2 @ energies + np.vdot(state, rest @ state).real


@pytest.mark.parametrize("peer", [in_numpy, in_qutip, in_netket, in_quspin, in_dimod], ids=lambda peer: peer.__name__)
def test_every_package_has_the_same_hamiltonian(peer):
    rng = np.random.default_rng(20)
    state = rng.normal(size=16) + 1j * rng.normal(size=16)
    state /= np.linalg.norm(state)
    reference = kron_matrix()
    native, converted, energy = peer(state)
    np.testing.assert_allclose(native, reference, atol=1e-14)
    np.testing.assert_allclose(converted, reference, atol=1e-14)
    assert energy == pytest.approx(np.vdot(state, reference @ state).real, abs=1e-13)
    # Not vacuous: every term matters to the energy of this state.
    for x, z, c in HAMILTONIAN:
        term = PauliSum([(x, z, c)]).to_dense(N_SITES)
        assert abs(np.vdot(state, term @ state)) > 1e-3
