r"""The residual ||H psi - E psi|| of a matrix product state, without subtracting large numbers.

<H^2> - <H>^2 is known to about 1e-15 E^2 only, and its root to 3e-8 E: not enough to judge a state whose forces are
divided by beta. Instead the vector is split by the first position i at which it leaves the Schmidt space of psi,

    (H - E) psi = sum_i (A_0 .. A_(i-1)) N_i v_i ,     ||(H - E) psi||^2 = sum_i ||v_i||^2 ,

with A the left-canonical tensors and N_i the orthonormal complement of A_i; the part that never leaves is
<psi|H|psi> - E = 0. With the left environment L and the channels a of the matrix product operator,

    v_i = sum_a F_i[a] (W .. W B .. B)[a] ,     F_i[a] = N_i+ (L A_i W_i)[a] .

In the channel where H has not begun F is N_i+ A_i = 0: the energy of the right part, the only number that grows with
the chain, drops out. The remaining right factors are made orthonormal by QR, W .. W B .. B = R_i Q_i, so that
||v_i|| = ||F_i R_i|| is a sum of squares to the end, accurate to rounding.

The idea of projecting on the complement is that of Hubig, Haegeman & Schollwoeck, Phys. Rev. B 97, 045125 (2018), who
keep its one- and two-site parts; here all ranges are kept.
"""

import numpy as np

from .mps_state import MatrixProductState


def residual_norm(state: MatrixProductState, operator: list[np.ndarray]) -> float:
    """||H psi - E psi|| with E = <psi|H|psi>.

    Args:
        state: right-canonical and normalised.
        operator: H as made by `matrix_product_operator`, its channels in that order.
    """
    factors = _right_factors(state, operator)
    environment, center = np.ones((1, 1, 1)), state.tensors[0]  # environment: (bra, channel, ket)
    squares = 0.0
    for k, W in enumerate(operator):
        left, _, right = center.shape
        A, R = np.linalg.qr(center.reshape(left * 2, right))
        applied = np.tensordot(environment, A.reshape(left, 2, -1), axes=1)  # (bra, channel, spin, ket)
        applied = np.tensordot(applied, W, axes=([1, 2], [0, 3])).transpose(0, 3, 2, 1).reshape(left * 2, -1)
        kept = A.conj().T @ applied
        outside = (applied - A @ kept).reshape(left * 2, W.shape[1], -1)
        begun = outside if W.shape[1] == 1 else outside[:, 1:]
        vectors = (begun @ R).reshape(left * 2, -1) @ factors[k]
        squares += float(np.linalg.norm(vectors) ** 2)
        environment = kept.reshape(len(kept), W.shape[1], -1)
        if k + 1 < state.n_sites:
            center = np.tensordot(R, state.tensors[k + 1], axes=1)
    return float(np.sqrt(squares))


def _right_factors(state: MatrixProductState, operator: list[np.ndarray]) -> list[np.ndarray]:
    """For the bond right of each position: R, (channels that have begun, bond) x rank, of the right parts W .. W B .. B."""
    factor = np.ones((1, 1))
    factors = [factor]
    for B, W in zip(state.tensors[:0:-1], operator[:0:-1], strict=True):
        begun = W[1:] if W.shape[1] == 1 else W[1:, 1:]
        right = factor.reshape(begun.shape[1], B.shape[2], -1)
        applied = np.tensordot(np.tensordot(begun, B, axes=([3], [1])), right, axes=([1, 4], [0, 1]))
        applied = applied.transpose(0, 2, 1, 3).reshape(begun.shape[0] * B.shape[0], -1)  # (channel, ket), (spin, rank)
        factor = np.asarray(np.linalg.qr(applied.T, mode="r")).T
        factors.append(factor)
    return factors[::-1]
