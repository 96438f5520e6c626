"""Flat directions of a minimum, and how much of a cost's slope lies along them."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from .factorization import DENSE
from .relax import FLAT


def flatness(matrix: Any) -> dict[str, Any]:
    """How many directions of a second derivative are flat, which, and in words for the error; nothing where none is.

    Its spectrum is computed up to `DENSE` coordinates.
    """
    if matrix is None or matrix.shape[0] > DENSE:
        return {}
    softness, directions = np.linalg.eigh(matrix.toarray() if sp.issparse(matrix) else matrix)
    flat = np.abs(softness) <= 10 * FLAT * max(np.abs(softness).max(), 1e-300)
    count = int(flat.sum())
    return {
        "flat_directions": count,
        "zero_modes": directions[:, flat],
        "advice": f"{count} of {len(softness)} directions of the minimum are flat: floppy modes of a network, or a symmetry. "
        "Pin nodes, add springs or an on-site stiffness; fix a phase.",
    } if count else {}  # fmt: skip


def overlap(slope: np.ndarray, flat: np.ndarray) -> float:
    """Norm of a slope along orthonormal directions (n_free, n_flat), relative to the whole.

    Example:
        >>> overlap(np.array([3.0, 4.0]), np.array([[1.0], [0.0]]))
        0.6
    """
    norm = float(np.linalg.norm(slope))
    return float(np.linalg.norm(flat.T @ slope)) / norm if norm else 0.0
