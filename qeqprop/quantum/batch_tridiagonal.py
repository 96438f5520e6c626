"""Lowest eigenpair of a small symmetric tridiagonal matrix: the Rayleigh-Ritz step of Lanczos.

Far cheaper than all eigenpairs by QL: Laguerre's iteration from a lower bound (the last Ritz value less its residual)
takes three to five passes over the diagonals, and a twisted factorisation gives the vector in two more (Parlett and
Dhillon, Linear Algebra Appl. 267, 247 (1997)).
"""

# mypy: allow-untyped-defs, disable-error-code="var-annotated,call-arg"

import numpy as np

from .batch_kernels import jit

TINY = 1e-300  # in place of a pivot that is exactly zero


@jit
def laguerre_step(alpha, beta, size, shift):
    """Laguerre's step from `shift` towards the spectrum; negative unless `shift` is left of it.

    All pivots of `T - shift` are positive exactly there. Their logarithmic derivatives give the sums `s1`, `s2` of
    `1 / (lambda - shift)` and of its square, hence a step that never passes the smallest eigenvalue and converges
    cubically.
    """
    s1 = s2 = r = t = e = 0.0
    pivot = 1.0
    for i in range(size):
        if i > 0:
            e = beta[i - 1] * beta[i - 1] / pivot
        pivot = alpha[i] - shift - e
        if not pivot > 0.0:
            return -1.0
        inverse = 1.0 / pivot
        rise = e * (r * r + t) * inverse
        r = (1.0 + e * r) * inverse
        t = rise + r * r
        s1 += r
        s2 += t
    return size / (s1 + np.sqrt(max((size - 1) * (size * s2 - s1 * s1), 0.0)))


@jit
def lowest_eigenvalue(alpha, beta, size, guess):
    """Smallest eigenvalue, approached from a lower bound: `guess` if it is one, else Gershgorin's."""
    bound = np.inf
    for i in range(size):
        left = abs(beta[i - 1]) if i > 0 else 0.0
        right = abs(beta[i]) if i < size - 1 else 0.0
        bound = min(bound, alpha[i] - left - right)
    resolution = 1e-8 * (abs(bound) + abs(alpha[0]))  # the step after it is below rounding
    shift = max(guess, bound)
    step = laguerre_step(alpha, beta, size, shift)
    if step < 0.0:
        shift = bound
        step = laguerre_step(alpha, beta, size, shift)
    while step > resolution:  # a negative step: rounding has carried the shift onto the eigenvalue
        shift += step
        step = laguerre_step(alpha, beta, size, shift)
    return shift


@jit
def lowest_pair(alpha, beta, size, guess, vector, pivots):
    """Lowest eigenpair of (alpha, beta): returns the eigenvalue, writes the unit eigenvector to `vector[:size]`.

    Pivots of the eliminations from both ends meet at every row; the row where they leave the smallest number is the one
    equation to drop, and the eigenvector grows outwards from it. `pivots` is workspace.
    """
    shift = lowest_eigenvalue(alpha, beta, size, guess)
    pivots[0] = alpha[0] - shift
    for i in range(1, size):
        if pivots[i - 1] == 0.0:
            pivots[i - 1] = TINY
        pivots[i] = alpha[i] - shift - beta[i - 1] * beta[i - 1] / pivots[i - 1]
    vector[size - 1] = alpha[size - 1] - shift  # first the pivots from the other end
    twist, smallest = size - 1, pivots[size - 1]
    for i in range(size - 2, -1, -1):
        if vector[i + 1] == 0.0:
            vector[i + 1] = TINY
        e = beta[i] * beta[i] / vector[i + 1]
        vector[i] = alpha[i] - shift - e
        if abs(pivots[i] - e) < abs(smallest):
            twist, smallest = i, pivots[i] - e
    norm, value = 1.0, 1.0
    for i in range(twist, size - 1):
        value *= -beta[i] / vector[i + 1]
        vector[i + 1] = value
        norm += value * value
    vector[twist] = 1.0
    value = 1.0
    for i in range(twist - 1, -1, -1):
        value *= -beta[i] / pivots[i]
        vector[i] = value
        norm += value * value
    inverse = 1.0 / np.sqrt(norm)
    for i in range(size):
        vector[i] *= inverse
    return shift + smallest / norm
