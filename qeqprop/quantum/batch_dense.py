"""Batches of at most 16 x 16 Hamiltonians: `numpy.linalg.eigh` on the stacked matrices."""

import numpy as np
from numpy.typing import NDArray

from .batch_plan import BatchPlan
from .batch_response import response_scale

Array = NDArray[np.float64]


def matrices(plan: BatchPlan, coefs: Array) -> Array:
    """`H_b` of shape `(B, 2^n, 2^n)`."""
    s = np.arange(plan.dimension)
    h = np.zeros((coefs.shape[0], plan.dimension, plan.dimension))
    for k, (x, z) in enumerate(zip(plan.xmasks, plan.zmasks, strict=True)):
        h[:, s ^ x, s] += coefs[:, k, None] * (1.0 - 2.0 * (np.bitwise_count(s & z) % 2))
    return h


def ground_states(
    plan: BatchPlan,
    coefs: Array,
    certify_gap: bool,
    realified: bool,
    energy: Array,
    vector: Array,
    residual: Array,
    gap: Array,
) -> None:
    """Fill the results of `batch.ground_states`."""
    h = matrices(plan, coefs)
    levels, states = np.linalg.eigh(h)
    energy[:], vector[:] = levels[:, 0], states[:, :, 0]
    residual[:] = np.linalg.norm(np.einsum("bij,bj->bi", h, vector) - energy[:, None] * vector, axis=1)
    excited = 2 if realified else 1
    if certify_gap:
        gap[:] = levels[:, excited] - levels[:, 0]


def responses(
    plan: BatchPlan,
    coefs: Array,
    energy: Array,
    vector: Array,
    partner: Array | None,
    term_plan: BatchPlan,
    term_coefs: Array,
    x: Array,
    residual: Array,
) -> None:
    """Fill the results of `batch.responses`, by the pseudo-inverse of `Q (H - E) Q`."""
    identity = np.eye(plan.dimension)
    q = identity - vector[:, :, None] * vector[:, None, :]
    if partner is not None:
        q -= partner[:, :, None] * partner[:, None, :]
    operator = q @ (matrices(plan, coefs) - energy[:, None, None] * identity) @ q
    image = np.einsum("bij,bj->bi", matrices(term_plan, term_coefs), vector)
    rhs = -np.einsum("bij,bj->bi", q, image)
    x[:] = np.einsum("bij,bj->bi", np.linalg.pinv(operator, rcond=1e-12, hermitian=True), rhs)
    scale = response_scale(np.linalg.norm(rhs, axis=1), np.linalg.norm(image, axis=1))
    residual[:] = np.linalg.norm(np.einsum("bij,bj->bi", operator, x) - rhs, axis=1) / scale


def moments(plan: BatchPlan, bra: Array, ket: Array) -> Array:
    """`<bra_b| P_k |ket_b>` of shape `(B, K)`."""
    s = np.arange(plan.dimension)
    signs = 1.0 - 2.0 * (np.bitwise_count(s & plan.zmasks[:, None]) % 2)
    return np.einsum("bks,ks,bs->bk", bra[:, s ^ plan.xmasks[:, None]], signs, ket)
