"""Compiled solvers for one small spin Hamiltonian: lowest state, first excitation, linear response.

Three-term Lanczos with the basis kept and no reorthogonalisation: orthogonality is lost only towards a Ritz vector that
has converged, which for the lowest state is the moment to stop. The complement of known states is reached by projecting
every new Krylov vector, so that the same routine finds the ground state (nothing deflated) and the gap (psi deflated).
"""

import numba
import numpy as np

from qeqprop.quantum.batch_bipartite import allocate_halves, prepare, solve_bipartite
from qeqprop.quantum.batch_kernels import aligned, allocate, apply, axpy, build, dot, jit, moments, project_out, scale

KRYLOV_DIMENSION = 64  # basis vectors kept before a restart from the Ritz vector
FIRST_CHECK = 8
GAP_TOLERANCE = 1e-2
GAP_BUDGET = 200
WRONG_SECTORS = 4
HAND_OVER = 1e-4
NEWTON_LOSS = 10.0


@jit
def laguerre_step(alpha, beta, size, shift):
    """Laguerre's step from `shift` towards the spectrum of the tridiagonal matrix; negative unless `shift` is left of it.

    All pivots of `T - shift` are positive exactly there. Their logarithmic derivatives give the sums `s1`, `s2` of
    `1 / (lambda - shift)` and of its square, hence a step that never passes the smallest eigenvalue and converges cubically.
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
    """Smallest eigenvalue of the tridiagonal matrix, approached from a lower bound: `guess` if it is one, or Gershgorin's."""
    bound = np.inf
    for i in range(size):
        left = abs(beta[i - 1]) if i > 0 else 0.0
        right = abs(beta[i]) if i < size - 1 else 0.0
        bound = min(bound, alpha[i] - left - right)
    resolution = 1e-8 * (abs(bound) + abs(alpha[0]))
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
def lowest_ritz_pair(alpha, beta, size, guess, vector, pivots):
    """Lowest eigenpair of the tridiagonal matrix: eigenvalue returned, unit eigenvector into `vector[:size]`.

    Twisted factorisation: the equation with the smallest pivot is the one to leave out.
    """
    shift = lowest_eigenvalue(alpha, beta, size, guess)
    tiny = 1e-300
    pivots[0] = alpha[0] - shift
    for i in range(1, size):
        if pivots[i - 1] == 0.0:
            pivots[i - 1] = tiny
        pivots[i] = alpha[i] - shift - beta[i - 1] * beta[i - 1] / pivots[i - 1]
    # `vector` first holds the pivots of the elimination from the other end.
    vector[size - 1] = alpha[size - 1] - shift
    twist, best = size - 1, pivots[size - 1]
    for i in range(size - 2, -1, -1):
        if vector[i + 1] == 0.0:
            vector[i + 1] = tiny
        e = beta[i] * beta[i] / vector[i + 1]
        vector[i] = alpha[i] - shift - e
        gamma = pivots[i] - e
        if abs(gamma) < abs(best):
            twist, best = i, gamma
    norm = 1.0
    value = 1.0
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
    scale(1.0 / np.sqrt(norm), vector[:size])
    return shift + best / norm


@jit
def lanczos(h, x, states, count, basis, tridiagonal, atol, rtol, reference, budget):
    """Lowest Ritz pair of H on the complement of `states[:count]`, from `x`, which becomes the Ritz vector.

    Stops when the residual estimate is below `max(atol, rtol * (theta - reference))`, when the Krylov space closes, or
    after `budget` products. Returns `(theta, residual estimate, products)`.
    """
    alpha, beta, ritz, pivots = tridiagonal[0], tridiagonal[1], tridiagonal[2], tridiagonal[3]
    limit = min(budget, basis.shape[0] - 1)
    project_out(states, count, x)
    norm = np.sqrt(dot(x, x))
    basis[0, :] = x
    scale(1.0 / norm, basis[0])
    theta, estimate = np.inf, np.inf
    guess = -np.inf
    check, last_check, last_estimate = 1, 0, np.inf
    size = 0
    for step in range(limit):
        v, w = basis[step], basis[step + 1]
        a = apply(h, v, w)
        alpha[step] = a
        axpy(-a, v, w)
        if step > 0:
            axpy(-beta[step - 1], basis[step - 1], w)
        project_out(states, count, w)
        b = np.sqrt(dot(w, w))
        beta[step] = b
        size = step + 1
        closed = not b > 1e-13 * (abs(a) + abs(alpha[0]) + abs(beta[0]))
        if size == check or size == limit or closed:
            theta = lowest_ritz_pair(alpha, beta, size, guess, ritz, pivots)
            estimate = b * abs(ritz[size - 1])
            goal = max(atol, rtol * (theta - reference))
            if closed or not estimate > goal:
                break
            check = FIRST_CHECK if size == 1 else size + next_check(size - last_check, last_estimate, estimate, goal)
            guess = theta - estimate
            last_check, last_estimate = size, estimate
        scale(1.0 / b, w)
    x[:] = 0.0
    for i in range(size):
        axpy(ritz[i], basis[i], x)
    scale(1.0 / np.sqrt(dot(x, x)), x)
    return theta, estimate, size


@jit
def next_check(distance, previous, estimate, goal):
    """Steps until the residual should have fallen to `goal`, extrapolating its last rate of decay."""
    if not previous < np.inf or not estimate < previous:
        return 4
    rate = np.log(previous / estimate) / distance
    return max(1, min(int(0.8 * np.log(estimate / goal) / rate) + 1, 12))


@jit
def random_vector(x):
    """Deterministic normal-like entries (sums of a 64-bit linear congruential generator): no symmetry, no zero overlap."""
    state = np.uint64(0x9E3779B97F4A7C15)
    for s in range(x.size):
        total = 0.0
        for _ in range(2):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            total += np.float64(np.int64(state >> np.uint64(11))) * 2.0**-53
        x[s] = total - 1.0


@jit
def mean_field_like(h, x):
    """A cheap start: perturbation theory in the flips around the classical minimum, with the signs that flips prefer.

    A random part keeps it out of symmetry sectors; it is all there is of sign structure where other groups exist.
    """
    lowest, highest = np.inf, -np.inf
    for s in range(x.size):
        lowest, highest = min(lowest, h.diagonal[s]), max(highest, h.diagonal[s])
    width = flip_width(h) + 0.05 * (highest - lowest)
    if not width > 0.0:
        width = 1.0
    noise = 0.1 if h.jump.size + h.field_x.size == 0 else 1.0
    random_vector(x)
    for s in range(x.size):
        ratio = width / (h.diagonal[s] - lowest + width)
        x[s] = ratio * ratio * (1.0 + noise * x[s])
    half = 1
    for bit in range(h.flip.size):
        if h.flip[bit] > 0.0:
            for base in range(half, x.size, 2 * half):
                scale(-1.0, x[base : base + half])
        half *= 2


@jit
def residual_of(h, psi, w):
    """Rayleigh quotient and true residual norm of unit `psi`; `w` is overwritten."""
    energy = apply(h, psi, w)
    axpy(-energy, psi, w)
    return energy, np.sqrt(dot(w, w))


@jit
def realified_partner(psi, partner):
    """`J psi`: multiplication by i of the complex state whose real and imaginary parts are the halves of `psi`."""
    half = psi.size // 2
    for s in range(half):
        partner[s] = -psi[s + half]
        partner[s + half] = psi[s]


@jit
def relax(h, psi, states, basis, tridiagonal, halves, tol, budget):
    """Ground state from the start `psi`: `(energy, residual, products)`.

    Lanczos with restarts; where flips are the only off-diagonal elements it stops early and hands over to `refine`.
    """
    coarse = HAND_OVER * flip_width(h) if h.jump.size + h.field_x.size == 0 else 0.0
    energy, residual, products = np.inf, np.inf, 0
    while residual > tol and products < budget:
        goal = max(coarse, 0.5 * tol)
        _, _, steps = lanczos(h, psi, states, 0, basis, tridiagonal, goal, 0.0, 0.0, budget - products)
        products += steps
        energy, residual = residual_of(h, psi, basis[0])
        if coarse > 0.0:
            energy, residual, steps = refine(h, psi, energy, residual, basis[0], basis[1], halves, tol, budget - products)
            products += steps
        coarse = 0.0
    return energy, residual, products


@jit
def refine(h, psi, energy, residual, defect, step, halves, tol, budget):
    """Newton steps on the Rayleigh quotient: `(H - E) t = -defect`, `t` orthogonal to psi; `defect = (H - E) psi`.

    A step takes the residual to its third power in units of the gap; it is solved no better than that.
    """
    width = flip_width(h)
    products = 0
    while residual > tol and products < budget and prepare(h, energy, psi, halves):
        scale(-1.0, defect)
        loss = NEWTON_LOSS * residual / width
        goal = max(0.3 * tol, min(0.1, loss * loss) * residual)
        products += solve_bipartite(h, defect, goal, budget - products, halves, step)
        axpy(-dot(psi, step), psi, step)
        axpy(1.0, step, psi)
        scale(1.0 / np.sqrt(dot(psi, psi)), psi)
        previous = residual
        energy, residual = residual_of(h, psi, defect)
        products += 1
        if not residual < 0.3 * previous:
            break
    return energy, residual, products


@jit
def flip_width(h):
    """`sum_b |g_b|`, the unit of energy."""
    width = 0.0
    for bit in range(h.flip.size):
        width += abs(h.flip[bit])
    return width


@jit
def solve_sample(h, psi, states, basis, tridiagonal, halves, tol, budget, certify, realified):
    """Ground state of `h` from the start in `psi`; the excitation run also catches a start in the wrong sector."""
    energy, residual, products = relax(h, psi, states, basis, tridiagonal, halves, tol, budget)
    gap = np.nan
    excited = states[2]
    for _ in range(WRONG_SECTORS if certify else 0):
        states[0] = psi
        realified_partner(psi, states[1])
        excitation_like(psi, excited)
        first, _, _ = lanczos(
            h, excited, states, 2 if realified else 1, basis, tridiagonal, tol, GAP_TOLERANCE, energy, GAP_BUDGET
        )
        gap = first - energy
        if not gap < -10.0 * residual or products >= budget:
            break
        psi[:] = excited
        energy, residual, steps = relax(h, psi, states, basis, tridiagonal, halves, tol, budget - products)
        products += steps
    return energy, residual, gap, products


@jit
def excitation_like(psi, x):
    """A start for the first excited state: a random field on psi (single-spin excitations), and noise against symmetry."""
    random_vector(x)
    noise = 1.0 / np.sqrt(x.size)
    random_field = 0.0
    for s in range(x.size):
        x[s] *= noise
    half = 1
    while half < x.size:
        random_field = np.cos(3.0 * half + 1.0)
        for base in range(half, x.size, 2 * half):
            axpy(random_field, psi[base : base + half], x[base : base + half])
        half *= 2


@jit
def ground_states_range(groups, n_bits, coefs, start, cold, tol, budget, certify, realified, energy, vector, residual, gap, count):
    """Solve the samples of one thread; `start` is `(1 or B, N)` and unread if `cold`."""
    size = 1 << n_bits
    h = allocate(groups, n_bits)
    basis = aligned(KRYLOV_DIMENSION + 1, size)
    tridiagonal = np.empty((4, KRYLOV_DIMENSION + 1))
    states = aligned(4, size)
    psi = states[3]
    halves = allocate_halves(size)
    for b in range(coefs.shape[0]):
        build(groups, coefs[b], h)
        if cold:
            mean_field_like(h, psi)
        else:
            psi[:] = start[b if start.shape[0] > 1 else 0]
        energy[b], residual[b], gap[b], count[b] = solve_sample(
            h, psi, states, basis, tridiagonal, halves, tol, budget, certify, realified
        )
        vector[b] = psi


@jit
def conjugate_gradient(h, energy, states, count, rhs, goal, budget, work, x):
    """Solve `(H - energy) x = rhs` in the complement of `states[:count]`; returns the number of products."""
    r, p, q = work[0], work[1], work[2]
    r[:] = rhs
    p[:] = rhs
    x[:] = 0.0
    rr = dot(r, r)
    products = 0
    while products < budget and np.sqrt(rr) > goal:
        curvature = apply(h, p, q) - energy * dot(p, p)
        products += 1
        if not curvature > 0.0:
            break
        step = rr / curvature
        axpy(step, p, x)
        for s in range(r.size):
            r[s] -= step * (q[s] - energy * p[s])
        project_out(states, count, r)
        previous, rr = rr, dot(r, r)
        ratio = rr / previous
        for s in range(p.size):
            p[s] = r[s] + ratio * p[s]
    return products


@jit
def respond(h, energy, states, count, work, halves, tol, budget):
    """Sternheimer equation with right-hand side `work[3]`, solution into `work[4]`: `(relative residual, products)`."""
    rhs, x, q = work[3], work[4], work[5]
    size = np.sqrt(dot(rhs, rhs))
    project_out(states, count, rhs)
    project_out(states, count, rhs)
    norm = np.sqrt(dot(rhs, rhs))
    if not norm > 1e-14 * size:  # C psi is psi up to rounding: nothing responds
        x[:] = 0.0
        return 0.0, 0
    if count == 1 and prepare(h, energy, states[0], halves):
        products = solve_bipartite(h, rhs, tol * norm, budget, halves, x)
    else:
        products = conjugate_gradient(h, energy, states, count, rhs, tol * norm, budget, work, x)
    project_out(states, count, x)
    apply(h, x, q)
    for s in range(q.size):
        q[s] -= energy * x[s] + rhs[s]
    project_out(states, count, q)
    return np.sqrt(dot(q, q)) / norm, products


@jit
def responses_range(groups, term_groups, n_bits, coefs, term_coefs, energy, vector, partner, count, tol, budget, x, residual, products):
    """Linear responses of the samples of one thread; `partner` is read if `count == 2`."""
    size = 1 << n_bits
    h = allocate(groups, n_bits)
    cost = allocate(term_groups, n_bits)
    work = aligned(6, size)
    states = aligned(2, size)
    halves = allocate_halves(size)
    for b in range(coefs.shape[0]):
        build(groups, coefs[b], h)
        build(term_groups, term_coefs[b], cost)
        states[0] = vector[b]
        if count == 2:
            states[1] = partner[b]
        apply(cost, states[0], work[3])
        scale(-1.0, work[3])
        residual[b], products[b] = respond(h, energy[b], states, count, work, halves, tol, budget)
        x[b] = work[4]


@jit
def moments_range(groups, bra, ket, out):
    """Moments of the samples of one thread."""
    work = aligned(3, ket.shape[1])
    for b in range(ket.shape[0]):
        work[1], work[2] = bra[b], ket[b]
        moments(groups, work[1], work[2], work[0], out[b])
