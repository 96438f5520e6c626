"""What keeps a network from having a ground state: floating nodes, negative stiffness, too strong a nudge."""

from typing import NoReturn

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.csgraph
import scipy.sparse.linalg as sla

from ..core.system import Params, replaced
from .gaussian_hamiltonian import Entries, QuadraticHamiltonian
from .gaussian_sparse import confined
from .oscillators import HarmonicNetwork
from .sparse_cholesky import SparseCholesky

DENSE = 400


def refuse(network: HarmonicNetwork, params: Params) -> NoReturn:
    """Say why this network is not bound.

    Raises:
        ValueError: always, with the strengths between which a nudge is stable, the nodes that float, or the entries
            of negative stiffness.
    """
    h = network.hamiltonian(params)
    if network.nudges:
        term, strength = network.nudges[-1]
        free = replaced(network, nudges=network.nudges[:-1]).hamiltonian(params)
        if is_bound(free):
            low, high = stability_limits(free, network.term_form(term))
            raise ValueError(
                f"A nudge of strength {strength:.6g} leaves this network without a ground state: with these parameters "
                f"and this cost the strength must lie between {low:.6g} and {high:.6g}. Use a smaller beta, or "
                "LinearResponse()."
            )
    if nodes := floating_nodes(network, h):
        shown = ", ".join(map(str, nodes[:8])) + (f", ... ({len(nodes)} nodes)" if len(nodes) > 8 else "")
        raise ValueError(
            f"This network has no ground state: nodes {shown} float freely, a zero mode. Give one of them an on-site "
            "stiffness (kappa > 0), or join them by a spring to a node that has one."
        )
    negative = [
        f"{name}[{index}] = {value[index]:.6g}"
        for name, value in ((name, params.get(name, network.fixed.get(name))) for name in ("k", "kappa"))
        if value is not None and np.any(value < 0)
        for index in (int(np.argmin(value)),)
    ]
    cause = f" The most negative are {' and '.join(negative)}." if negative else ""
    raise ValueError(
        "This network has no ground state: its stiffness matrix is not positive definite (a soft mode)."
        f"{cause} Raise kappa, or make the stiffnesses positive."
    )


def is_bound(h: QuadraticHamiltonian) -> bool:
    """Whether K and A are positive definite (their real parts)."""
    matrices = (entries.tosparse().real for entries in (h.stiffness, h.inverse_mass))
    return all(confined(SparseCholesky(matrix), matrix) for matrix in matrices)


def floating_nodes(network: HarmonicNetwork, h: QuadraticHamiltonian) -> list[int]:
    """Nodes of connected parts that can be shifted at no cost."""
    matrix = sp.csc_array(h.stiffness.tosparse().real)
    matrix.eliminate_zeros()
    _, labels = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    pull = np.abs(matrix.sum(axis=1))  # the force when everything moves by 1
    size = np.abs(matrix).sum(axis=1) + 1e-300
    held = np.bincount(labels, pull > 1e-13 * size)
    coordinates = np.flatnonzero(held[labels] == 0)
    return sorted({int(c) // network.components for c in coordinates})


def stability_limits(free: QuadraticHamiltonian, bent: QuadraticHamiltonian) -> tuple[float, float]:
    """The open interval of strengths for which free + strength * bent is bound.

    K + beta K' is positive definite while 1 + beta mu > 0 for all mu with K' v = mu K v; the same holds for A.

    Example: for (R(o) - y)^2 the interval is (-1 / (2 (K^-1)_oo), inf).
    """
    low, high = -np.inf, np.inf
    for matrix, form in ((free.stiffness, bent.stiffness), (free.inverse_mass, bent.inverse_mass)):
        if np.any(form.values):
            smallest, largest = _extreme(form, matrix)
            low = max(low, -1 / largest) if largest > 0 else low
            high = min(high, -1 / smallest) if smallest < 0 else high
    return float(low), float(high)


def _extreme(form: Entries, matrix: Entries) -> tuple[float, float]:
    """Smallest and largest mu of form v = mu matrix v."""
    if matrix.size <= DENSE:
        values = scipy.linalg.eigh(form.toarray(), matrix.toarray(), eigvals_only=True)
    else:
        metric = matrix.tosparse()
        factors = SparseCholesky(metric)
        confined(factors, metric)
        inverse = sla.LinearOperator(metric.shape, matvec=lambda x: factors.solve(x.ravel()), dtype=float)
        options = {"k": 1, "M": metric, "Minv": inverse, "return_eigenvectors": False, "tol": 1e-8}
        start = np.random.default_rng(0).normal(size=matrix.size)
        sparse = form.tosparse()
        values = np.concatenate([sla.eigsh(sparse, which=which, v0=start, **options) for which in ("SA", "LA")])
    size = np.abs(values).max()
    values = np.where(np.abs(values) > 1e-10 * size, values, 0.0)
    return float(values.min()), float(values.max())
