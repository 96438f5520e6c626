"""Full gradients of many small networks: samples per CPU second with qeqprop, SciPy and QuTiP.

All samples share J and g and differ in their longitudinal fields. A full gradient is the ground state, the linear
response to a nudge by Z on the last spin, and all <Z_i Z_j>, <Z_i>, <X_i>.
"""

import time

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from peers import Model, random_model, scipy_forces, scipy_matrix, z_signs


def fields(model: Model, samples: int) -> np.ndarray:
    """Random longitudinal fields of every sample."""
    return 0.5 * np.random.default_rng(1).normal(size=(samples, model.n))


def with_qeqprop(n: int, samples: int) -> float:
    """One call of `qp.linear_response` on the whole batch, gaps certified."""
    import qeqprop as qp

    model = random_model(n)
    network = qp.TransverseFieldIsing(n, model.edges, input_sites=range(n))
    cost = qp.ObservableCost(qp.Z(n - 1))
    solver = qp.ExactDiagonalization(threads=1)
    qp.linear_response(network, model.params, cost, inputs=fields(model, 4), solver=solver)
    inputs = fields(model, samples)
    started = time.process_time()
    qp.linear_response(network, model.params, cost, inputs=inputs, solver=solver)
    return samples / (time.process_time() - started)


def with_scipy(n: int, samples: int) -> float:
    """A loop of `eigsh` and `cg`, with the couplings' matrix and the signs made once."""
    model = random_model(n)
    couplings, signs = scipy_matrix(model), z_signs(n)
    rows = fields(model, samples)
    started = time.process_time()
    for field in rows:
        matrix = couplings - sp.diags_array(field @ signs, format="csr")
        values, vectors = spla.eigsh(matrix, k=1, which="SA", tol=1e-10)
        psi, energy = vectors[:, 0], values[0]
        rhs = -(signs[-1] * psi)
        rhs -= psi * (psi @ rhs)
        operator = spla.LinearOperator(matrix.shape, matvec=_projected(matrix, energy, psi), dtype=np.float64)
        x, _ = spla.cg(operator, rhs, rtol=1e-10)
        scipy_forces(n, psi, x, signs)
    return samples / (time.process_time() - started)


def with_scipy_operators(n: int, samples: int) -> float:
    """Centered EP the usual way: three `eigsh` a sample, forces from cached sparse operators one by one."""
    model, signs, beta = random_model(n), z_signs(n).astype(np.float64), 1e-3
    couplings, states = scipy_matrix(model), np.arange(1 << n)
    diagonals = [signs[i] * signs[j] for i, j in model.edges] + list(signs)
    operators = [sp.diags_array(d, format="csr") for d in diagonals]
    operators += [sp.csr_array((np.ones(1 << n), (states, states ^ (1 << (n - 1 - i))))) for i in range(n)]
    rows = fields(model, samples)
    started = time.process_time()
    for field in rows:
        for strength in (0.0, beta, -beta):
            matrix = couplings - sp.diags_array(field @ signs - strength * signs[-1], format="csr")
            psi = spla.eigsh(matrix, k=1, which="SA", tol=1e-10)[1][:, 0]
            _ = [psi @ (operator @ psi) for operator in operators if strength]
    return samples / (time.process_time() - started)


def _projected(matrix: sp.csr_array, energy: float, psi: np.ndarray):  # type: ignore[no-untyped-def]
    def apply(v: np.ndarray) -> np.ndarray:
        w = matrix @ v - energy * v
        return w - psi * (psi @ w)

    return apply


def with_qutip(n: int, samples: int) -> float:
    """A loop of `groundstate` on cached operators; centered EP, as QuTiP has no linear response."""
    import qutip
    from peers import qutip_hamiltonian

    model, beta = random_model(n), 1e-3
    couplings = qutip_hamiltonian(model)

    def site(operator, i):  # type: ignore[no-untyped-def]
        return qutip.tensor([operator if k == i else qutip.qeye(2) for k in range(n)])

    Z, X = ([site(op, i) for i in range(n)] for op in (qutip.sigmaz(), qutip.sigmax()))
    forces = [Z[i] * Z[j] for i, j in model.edges] + Z + X
    samples = max(4, samples // n)
    rows = fields(model, samples)
    sparse = n > 8  # dense is faster below
    started = time.process_time()
    for field in rows:
        H = couplings - sum(x * z for x, z in zip(field, Z, strict=True))
        for nudged in (H + beta * Z[-1], H - beta * Z[-1]):
            _, psi = nudged.groundstate(sparse=sparse)
            qutip.expect(forces, psi)
    return samples / (time.process_time() - started)


LIBRARIES = {
    "qeqprop": with_qeqprop,
    "scipy": with_scipy,
    "scipy_operators": with_scipy_operators,
    "qutip": with_qutip,
}
