r"""When is the ground state positive? Stoquastic Hamiltonians and their sign gauge.

Where all elements <s|H|s^x> off the diagonal are <= 0, the ground state has no sign structure (Perron-Frobenius), and
psi = exp(log psi) > 0 can represent it exactly. U = prod_i Z_i^(a_i) turns the elements of the flip x by the sign
(-1)^(a.x), so signs sigma_x that do not depend on s can be mended: a solves a.x = (sigma_x > 0) over GF(2), one equation
for a flip.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from .conversion import sites_of, write_label
from .pauli import PauliSum

MOST_SIGN_BITS = 16
ROUNDING = 1e-13


def sign_gauge(hamiltonian: PauliSum, n_sites: int) -> np.ndarray:
    """+1 or -1 for each site: X_i -> -X_i at the sites with -1 makes every off-diagonal element non-positive.

    Raises:
        ValueError: the Hamiltonian is complex, an element changes its sign with s, or no such gauge mends all signs; the
            message names the terms.

    Example:
        >>> import qeqprop as qp
        >>> sign_gauge(qp.X(0) - qp.X(1) - qp.Z(0) * qp.Z(1), 2)
        array([-1,  1])
    """
    flips: dict[int, dict[int, float]] = {}
    for x, z, c in hamiltonian:
        if (x & z).bit_count() % 2:
            raise ValueError(_refusal([(x, z, c)], "is complex in the Z basis"))
        if x:
            flips.setdefault(x, {})[z] = c.real * (-1) ** ((x & z).bit_count() // 2)
    signs = {x: _sign(x, strings) for x, strings in flips.items()}
    return _solve({x: sign for x, sign in signs.items() if sign}, n_sites, flips)


def gauged(operator: PauliSum, gauge: np.ndarray) -> PauliSum:
    """U O U with U = prod Z_i over the sites where the gauge is -1: X_i -> -X_i and Y_i -> -Y_i there."""
    turned = _turned(gauge)
    return PauliSum((x, z, -c if (x & turned).bit_count() % 2 else c) for x, z, c in operator)


def _turned(gauge: Iterable[int]) -> int:
    return sum(1 << site for site, sign in enumerate(gauge) if sign < 0)


def _sign(x: int, strings: dict[int, float]) -> int:
    """The sign of m_x(s) = sum_z c_z prod_{i in z} s_i for all s; 0 where it vanishes."""
    size = sum(map(abs, strings.values()))
    if (free := abs(strings.get(0, 0.0))) >= size - free:  # the constant outweighs the rest, whatever their signs
        return int(np.sign(strings[0])) if free else 0
    support = sites_of(_union(strings))
    if len(support) > MOST_SIGN_BITS:
        raise ValueError(_refusal([(x, z, c) for z, c in strings.items()], "has signs on too many sites to be checked"))
    states = np.arange(1 << len(support))
    values = np.zeros(len(states))
    for z, c in strings.items():
        mask = sum(1 << k for k, site in enumerate(support) if z >> site & 1)
        values += c * (1 - 2 * (np.bitwise_count(states & mask) & 1).astype(float))
    lowest, highest = values.min(), values.max()
    if lowest < -ROUNDING * size and highest > ROUNDING * size:
        terms = [(x, z, c) for z, c in strings.items()]
        raise ValueError(_refusal(terms, "changes its sign with the other spins"))
    return int(np.sign(highest if highest > ROUNDING * size else lowest))


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _solve(signs: dict[int, int], n_sites: int, flips: dict[int, dict[int, float]]) -> np.ndarray:
    """Gaussian elimination over GF(2): row operations on (mask of sites, wanted parity)."""
    pivots: dict[int, tuple[int, int, tuple[int, ...]]] = {}  # leading site -> (mask, parity, flips that were added up)
    for x, sign in signs.items():
        row, parity = x, int(sign > 0)
        members: tuple[int, ...] = (x,)
        while row:
            lead = row.bit_length() - 1
            if lead not in pivots:
                pivots[lead] = (row, parity, members)
                break
            mask, bit, others = pivots[lead]
            row, parity, members = row ^ mask, parity ^ bit, (*members, *others)
        if not row and parity:
            loop = [flip for flip in set(members) if members.count(flip) % 2]
            terms = [(flip, z, c) for flip in sorted(loop) for z, c in flips[flip].items()]
            raise ValueError(
                _refusal(terms, "forms a frustrated set: no sign gauge makes all of its elements negative")
            )
    chosen = 0
    for lead in sorted(pivots):  # every other bit of a row lies below its leading one
        mask, parity, _ = pivots[lead]
        if ((mask ^ 1 << lead) & chosen).bit_count() % 2 != parity:
            chosen |= 1 << lead
    return np.array([-1 if chosen >> site & 1 else 1 for site in range(n_sites)])


def _refusal(terms: Sequence[tuple[int, int, complex]], reason: str) -> str:
    shown = ", ".join(f"{complex(c).real:+.3g} {write_label(x, z)}" for x, z, c in terms[:6])
    more = f" and {len(terms) - 6} more" if len(terms) > 6 else ""
    return (
        f"Variational Monte Carlo with a positive wave function needs a stoquastic Hamiltonian, but {shown}{more} "
        f"{reason}. Use ExactDiagonalization, or another basis."
    )
