"""The same work done with SciPy, QuSpin, NetKet and QuTiP, each the way its own users would do it well.

Every function takes a `Model` (a transverse-field Ising network with random all-to-all couplings) and returns the
ground-state energy, so that the benchmark can check that all of them solved the same problem. Assembly is included.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla


class Model(NamedTuple):
    """H = - sum J_ij Z_i Z_j - sum h_i Z_i - sum g_i X_i on all pairs."""

    n: int
    edges: list[tuple[int, int]]
    J: np.ndarray
    h: np.ndarray
    g: np.ndarray

    @property
    def params(self) -> dict[str, np.ndarray]:
        return {"J": self.J, "h": self.h, "g": self.g}


def random_model(n: int, seed: int = 0) -> Model:
    """J ~ N(0, 1/n), h ~ N(0, 0.5^2), g ~ U(0.5, 1.5)."""
    rng = np.random.default_rng(seed)
    edges = [(i, j) for i in range(n) for j in range(i + 1, n)]
    return Model(
        n, edges, rng.normal(size=len(edges)) / np.sqrt(n), 0.5 * rng.normal(size=n), rng.uniform(0.5, 1.5, size=n)
    )


def z_signs(n: int) -> np.ndarray:
    """Eigenvalues of Z_i on every basis state, int8 (n, 2^n)."""
    states = np.arange(1 << n)
    return np.array([1 - 2 * (states >> (n - 1 - i) & 1) for i in range(n)], dtype=np.int8)


def scipy_matrix(model: Model) -> sp.csr_array:
    """CSR without a detour: one row of flips for every basis state."""
    n, dim = model.n, 1 << model.n
    diagonal = np.zeros(dim)
    signs = z_signs(n)
    for i in range(n):  # sum_j J_ij Z_i Z_j + h_i Z_i, n passes instead of n^2
        field = np.full(dim, model.h[i])
        for (a, b), J in zip(model.edges, model.J, strict=True):
            if a == i:
                field += J * signs[b]
        diagonal -= field * signs[i]
    states = np.arange(dim, dtype=np.int32)
    columns = np.empty((dim, n + 1), dtype=np.int32)
    values = np.empty((dim, n + 1))
    columns[:, 0], values[:, 0] = states, diagonal
    for i in range(n):
        columns[:, i + 1], values[:, i + 1] = states ^ np.int32(1 << (n - 1 - i)), -model.g[i]
    indptr = np.arange(0, dim * (n + 1) + 1, n + 1, dtype=np.int32)
    return sp.csr_array((values.ravel(), columns.ravel(), indptr), shape=(dim, dim))


def scipy_ground_state(model: Model) -> tuple[float, float]:
    """`eigsh` on CSR to 1e-10; returns energy and true residual."""
    matrix = scipy_matrix(model)
    values, vectors = spla.eigsh(matrix, k=1, which="SA", tol=1e-10)
    psi = vectors[:, 0]
    return float(values[0]), float(np.linalg.norm(matrix @ psi - values[0] * psi))


def scipy_forces(n: int, bra: np.ndarray, ket: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, ...]:
    """<Z_i Z_j>, <Z_i>, <X_i> between two real states, by one matrix product and n flips."""
    density = bra * ket
    weighted = signs * density
    zz, z = weighted @ signs.T.astype(np.float64), weighted.sum(axis=1)
    states = np.arange(1 << n)
    x = np.array([bra @ ket[states ^ (1 << (n - 1 - i))] for i in range(n)])
    return zz, z, x


def scipy_linear_response(model: Model) -> tuple[float, np.ndarray]:
    """The Sternheimer equation by SciPy's CG on its own CSR matrix: the algorithm of `qp.linear_response`."""
    matrix, signs = scipy_matrix(model), z_signs(model.n)
    values, vectors = spla.eigsh(matrix, k=1, which="SA", tol=1e-10)
    psi, energy, cost = vectors[:, 0], values[0], signs[-1]
    rhs = -(cost * psi)
    rhs -= psi * (psi @ rhs)

    def project(v: np.ndarray) -> np.ndarray:
        w = matrix @ v - energy * v
        return w - psi * (psi @ w)

    operator = spla.LinearOperator(matrix.shape, matvec=project, dtype=np.float64)
    x, _ = spla.cg(operator, rhs, rtol=1e-10)
    zz, z, flips = scipy_forces(model.n, psi, x, signs)
    grad = np.concatenate([[-2 * zz[e] for e in model.edges], -2 * z, -2 * flips])
    return float(energy), grad


def scipy_centered(model: Model, beta: float) -> tuple[float, np.ndarray]:
    """Centered EP with warm-started `eigsh`."""
    matrix, signs = scipy_matrix(model), z_signs(model.n)
    values, vectors = spla.eigsh(matrix, k=1, which="SA", tol=1e-10)
    forces = []
    for b in (beta, -beta):
        nudged = matrix + sp.diags_array(b * signs[-1].astype(np.float64), format="csr")
        psi = spla.eigsh(nudged, k=1, which="SA", tol=1e-10, v0=vectors[:, 0])[1][:, 0]
        zz, z, flips = scipy_forces(model.n, psi, psi, signs)
        forces.append(np.concatenate([[-zz[e] for e in model.edges], -z, -flips]))
    return float(values[0]), (forces[0] - forces[1]) / (2 * beta)


def quspin_ground_state(model: Model) -> tuple[float, float]:
    """QuSpin's own sparse Hamiltonian and its `eigsh`."""
    from quspin.basis import spin_basis_1d
    from quspin.operators import hamiltonian

    static = [
        ["zz", [[-J, i, j] for (i, j), J in zip(model.edges, model.J, strict=True)]],
        ["z", [[-h, i] for i, h in enumerate(model.h)]],
        ["x", [[-g, i] for i, g in enumerate(model.g)]],
    ]
    checks = {"check_herm": False, "check_symm": False, "check_pcon": False}
    H = hamiltonian(static, [], basis=spin_basis_1d(model.n, pauli=1), dtype=np.float64, **checks)
    values, vectors = H.eigsh(k=1, which="SA", tol=1e-10)
    psi = vectors[:, 0]
    return float(values[0]), float(np.linalg.norm(H.dot(psi) - values[0] * psi))


def netket_ground_state(model: Model) -> tuple[float, float]:
    """NetKet's Pauli strings and `lanczos_ed`."""
    import netket as nk

    strings, weights = [], []
    for (i, j), J in zip(model.edges, model.J, strict=True):
        strings.append("".join("Z" if k in (i, j) else "I" for k in range(model.n)))
        weights.append(-J)
    for letter, field in (("Z", model.h), ("X", model.g)):
        for i, value in enumerate(field):
            strings.append("".join(letter if k == i else "I" for k in range(model.n)))
            weights.append(-value)
    H = nk.operator.PauliStrings(nk.hilbert.Spin(0.5, model.n), strings, weights)
    return float(nk.exact.lanczos_ed(H, k=1, scipy_args={"tol": 1e-10})[0]), float("nan")


def qutip_ground_state(model: Model) -> tuple[float, float]:
    """A sum of tensor products and `Qobj.groundstate(sparse=True)`."""
    H = qutip_hamiltonian(model)
    energy, _ = H.groundstate(sparse=True, tol=1e-10)
    return float(energy), float("nan")


def qutip_hamiltonian(model: Model):  # type: ignore[no-untyped-def]
    """- sum J_ij Z_i Z_j - ... from single-site operators, made once each."""
    import qutip

    def site(operator, i):  # type: ignore[no-untyped-def]
        return qutip.tensor([operator if k == i else qutip.qeye(2) for k in range(model.n)])

    Z = [site(qutip.sigmaz(), i) for i in range(model.n)]
    X = [site(qutip.sigmax(), i) for i in range(model.n)]
    H = -sum(h * z for h, z in zip(model.h, Z, strict=True)) - sum(g * x for g, x in zip(model.g, X, strict=True))
    for i in range(model.n):
        row = sum((J * Z[b] for (a, b), J in zip(model.edges, model.J, strict=True) if a == i), 0 * Z[0])
        H = H - Z[i] * row
    return H
