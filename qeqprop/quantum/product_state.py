"""The best real product state: where a cold ground-state search starts."""

import numpy as np

from .spins import SpinHamiltonian


def product_start(h: SpinHamiltonian, *, sweeps: int = 200) -> np.ndarray:
    """A vector of h.n_bits close to the ground state: a product of cos(t_i/2)|up> + sin(t_i/2)|down>.

    In such a state <Z_i> = cos t_i, <X_i> = sin t_i, <Y_i> = 0, so the energy is A sin t_i + B cos t_i + const in
    each angle and is minimised site by site. Sweeps stop when no angle moves.
    """
    n, strings = h.n_sites, np.bitwise_count(h.x & h.z) == 0
    x, z, c = h.x[strings], h.z[strings], h.coefficients[strings]
    bits = np.arange(n - 1, -1, -1)  # site 0 is the most significant bit
    has_x, has_z = ((mask[:, None] >> bits & 1).astype(bool) for mask in (x, z))
    angles = np.full(n, np.pi / 3)  # neither along X nor along Z: a symmetric point would never be left
    factors = np.where(has_x, np.sin(angles), np.where(has_z, np.cos(angles), 1.0))
    for _ in range(sweeps):
        previous = angles.copy()
        for site in range(n):
            factors[:, site] = 1.0
            others = c * np.prod(factors, axis=1)
            a, b = others[has_x[:, site]].sum(), others[has_z[:, site]].sum()
            if a or b:
                angles[site] = np.arctan2(-a, -b)
            factors[has_x[:, site], site] = np.sin(angles[site])
            factors[has_z[:, site], site] = np.cos(angles[site])
        if np.max(np.abs(angles - previous)) < 1e-3:
            break
    vector = np.ones(1)
    for angle in angles:
        vector = np.outer(vector, [np.cos(angle / 2), np.sin(angle / 2)]).ravel()
    return np.concatenate([vector, np.zeros_like(vector)]) if h.realified else vector
