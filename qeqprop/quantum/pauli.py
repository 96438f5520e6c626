r"""Pauli strings and their linear combinations.

A string is stored as two integer bit masks over the sites, $x$ and $z$ (bit $i$ belongs to site $i$). It stands for the
Hermitian operator

$$ P(x, z) = \prod_i \mathrm{i}^{x_i z_i} X_i^{x_i} Z_i^{z_i},
   \qquad (x_i, z_i) = (0,0), (1,0), (0,1), (1,1) \mapsto I, X, Z, Y . $$

Products, commutators and matrices then need only exclusive-or and bit counts.
"""

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qeqprop.core import display
from qeqprop.quantum import conversion
from qeqprop.quantum.algebra import AbstractSum, check_index, check_number

_IMAGINARY_POWERS = (1, 1j, -1, -1j)
_SHOWN_STRINGS = 12  # repr and LaTeX show at most this many
_MAX_PROJECTOR_SITES = 16


Term = tuple[int, int, complex]


class PauliSum(AbstractSum):
    r"""A linear combination of Pauli strings, $\hat O = \sum_k c_k P(x_k, z_k)$.

    Immutable and hashable. Pauli matrices (eigenvalues $\pm 1$), not spin-1/2 matrices. The number of sites is not part
    of the operator but an argument where a matrix is made. In matrices, site 0 is the most significant bit of the basis
    index and spin up ($Z = +1$) comes first.

    Equal strings are added, coefficients that are exactly zero are dropped, and coefficients without an imaginary part
    are kept as `float`. Two sums are equal if all their coefficients are, exactly.

    Args:
        terms: a mapping `{(x_mask, z_mask): coefficient}` or an iterable of `(x_mask, z_mask, coefficient)`.

    Raises:
        ValueError: if a mask is negative or a coefficient is not finite.
        TypeError: if a mask is not an integer or a coefficient is not a number.

    Example:
        >>> from qeqprop.quantum.pauli import X, Y, Z
        >>> energy = -1.0 * Z(0) * Z(1) - 0.5 * X(0)
        >>> energy
        -1.0 * Z0 Z1 - 0.5 * X0
        >>> X(0) * Y(0) == 1j * Z(0)
        True
        >>> energy.to_dense(2)
        array([[-1. ,  0. , -0.5,  0. ],
               [ 0. ,  1. ,  0. , -0.5],
               [-0.5,  0. ,  1. ,  0. ],
               [ 0. , -0.5,  0. , -1. ]])
    """

    __slots__ = ()
    _terms: tuple[Term, ...]

    def __init__(self, terms: Mapping[tuple[int, int], complex] | Iterable[Term] = ()) -> None:
        if isinstance(terms, Mapping):
            terms = ((x, z, c) for (x, z), c in terms.items())
        checked = ((check_index(x, "x"), check_index(z, "z"), check_number(c, "coefficient")) for x, z, c in terms)
        self._fill(_collect(checked))

    @classmethod
    def _from_valid(cls, terms: Iterable[Term]) -> "PauliSum":
        """A sum of terms that need no check: products of large sums have many."""
        made = cls.__new__(cls)
        made._fill(_collect(terms))
        return made

    @classmethod
    def _coerced(cls, value: object) -> "PauliSum | None":
        if isinstance(value, numbers.Complex):
            return cls._from_valid([(0, 0, check_number(value, "other"))])
        return value if isinstance(value, PauliSum) else None

    @classmethod
    def from_labels(cls, labels: Mapping[str, complex]) -> "PauliSum":
        """The sum of labelled strings, such as `{"Z0 Z1": -1.0, "X2": 0.5, "I": 3.0}`.

        Raises:
            ValueError: if a label cannot be read or names a site twice.

        Example:
            >>> PauliSum.from_labels({"Z0 Z1": -1.0, "X2": 0.5})
            -1.0 * Z0 Z1 + 0.5 * X2
        """
        return cls((*conversion.read_label(label), coefficient) for label, coefficient in labels.items())

    @classmethod
    def from_string(cls, text: str) -> "PauliSum":
        """Read a sum as `str` writes it: `PauliSum.from_string(str(operator)) == operator`, exactly.

        Raises:
            ValueError: if the text cannot be read; the message shows where.

        Example:
            >>> PauliSum.from_string("1 - Z0 Z1 + (0.5+2j) * X3")
            1.0 * I - 1.0 * Z0 Z1 + (0.5+2j) * X3
        """
        return cls(conversion.read_terms(text))

    def __iter__(self) -> Iterator[Term]:
        """Iterate over `(x_mask, z_mask, coefficient)`, sorted by mask."""
        return iter(self._terms)

    @property
    def max_site(self) -> int:
        """The largest site acted upon; -1 if there is none."""
        return self._mask.bit_length() - 1

    @property
    def support(self) -> tuple[int, ...]:
        """The sites acted upon, in ascending order."""
        return conversion.sites_of(self._mask)

    @property
    def weight(self) -> int:
        """The largest number of sites that one string acts upon."""
        return max(((x | z).bit_count() for x, z, _ in self), default=0)

    @property
    def norm_bound(self) -> float:
        r"""An upper bound of the spectral norm, $\sum_k |c_k| \ge \lVert \hat O \rVert$."""
        return math.fsum(abs(c) for _, _, c in self)

    @property
    def constant(self) -> complex:
        r"""The coefficient of the identity, $\mathrm{Tr}\,\hat O / 2^n$."""
        return next((c for x, z, c in self if x == z == 0), 0.0)

    @property
    def is_hermitian(self) -> bool:
        """Whether all coefficients are real."""
        return all(c.imag == 0 for _, _, c in self)

    @property
    def is_real(self) -> bool:
        """Whether the matrix is real: coefficients of an even number of Y's are real, of an odd number imaginary."""
        return all((c.real if (x & z).bit_count() % 2 else c.imag) == 0 for x, z, c in self)

    @property
    def is_diagonal(self) -> bool:
        """Whether the matrix is diagonal: only I and Z occur."""
        return all(x == 0 for x, _, _ in self)

    @property
    def _mask(self) -> int:
        mask = 0
        for x, z, _ in self:
            mask |= x | z
        return mask

    def commutes_with(self, other: "PauliSum") -> bool:
        r"""Whether $[\hat A, \hat B] = 0$, up to the rounding of the coefficients' products.

        Example:
            >>> (X(0) * X(1)).commutes_with(Z(0) * Z(1))
            True
        """
        commutator: dict[tuple[int, int], list[complex]] = {}
        for x1, z1, c1 in self:
            for x2, z2, c2 in other:
                if ((x1 & z2).bit_count() + (z1 & x2).bit_count()) % 2:
                    x, z, c = _multiply(x1, z1, c1, x2, z2, c2)
                    commutator.setdefault((x, z), []).append(c)
        return all(abs(sum(c)) <= 1e-14 * sum(map(abs, c)) for c in commutator.values())

    def __neg__(self) -> "PauliSum":
        return PauliSum._from_valid((x, z, -c) for x, z, c in self)

    def __pos__(self) -> "PauliSum":
        return self

    def __mul__(self, other: "PauliSum | complex") -> "PauliSum":
        if isinstance(other, PauliSum):
            return self @ other
        if not isinstance(other, numbers.Complex):
            return NotImplemented
        factor = check_number(other, "other")
        return PauliSum._from_valid((x, z, c * factor) for x, z, c in self)

    def __matmul__(self, other: "PauliSum") -> "PauliSum":
        if not isinstance(other, PauliSum):
            return NotImplemented
        return PauliSum._from_valid(_multiply(*left, *right) for left in self for right in other)

    def __truediv__(self, other: complex) -> "PauliSum":
        if not isinstance(other, numbers.Complex):
            return NotImplemented
        divisor = check_number(other, "other")
        return PauliSum._from_valid((x, z, c / divisor) for x, z, c in self)

    def dagger(self) -> "PauliSum":
        r"""The Hermitian conjugate, $\sum_k c_k^* P_k$."""
        return PauliSum._from_valid((x, z, c.conjugate()) for x, z, c in self)

    def without_identity(self) -> "PauliSum":
        """The traceless part."""
        return PauliSum._from_valid(term for term in self if term[:2] != (0, 0))

    def permuted(self, perm: Sequence[int]) -> "PauliSum":
        """Move site `i` to site `perm[i]`.

        Args:
            perm: a permutation of 0, ..., len(perm) - 1 that covers all sites of the operator.

        Raises:
            ValueError: if it is not a permutation, or too short.

        Example:
            >>> (X(0) * Z(1)).permuted([2, 0, 1])
            1.0 * Z0 X2
        """
        perm = [check_index(site, "perm") for site in perm]
        if sorted(perm) != list(range(len(perm))) or len(perm) <= self.max_site:
            needed = f"0, ..., n-1 with n > {self.max_site}, the largest site of the operator"
            raise ValueError(f"Argument `perm` must be a permutation of {needed}, but is {perm}.")

        def move(mask: int) -> int:
            return sum(1 << perm[site] for site in conversion.sites_of(mask))

        return PauliSum._from_valid((move(x), move(z), c) for x, z, c in self)

    kernel_strings = conversion.kernel_strings
    to_scipy = conversion.to_scipy
    to_dense = conversion.to_dense
    to_qutip = conversion.to_qutip
    to_netket = conversion.to_netket
    to_quspin = conversion.to_quspin
    from_matrix = classmethod(conversion.from_matrix)
    from_qutip = classmethod(conversion.from_qutip)
    from_netket = classmethod(conversion.from_netket)

    def __str__(self) -> str:
        return conversion.write_terms(self._terms)

    def __repr__(self) -> str:
        shown = conversion.write_terms(self._terms[:_SHOWN_STRINGS])
        return shown if len(self) <= _SHOWN_STRINGS else f"{shown} ... ({len(self)} strings)"

    def _repr_html_(self) -> str | None:
        """A table for Jupyter; None where the formula (`_repr_latex_`) shows all strings."""
        return display.of_operator(self) if len(self) > _SHOWN_STRINGS else None

    def _repr_latex_(self) -> str:
        shown = conversion.write_latex(self._terms[:_SHOWN_STRINGS])
        more = "" if len(self) <= _SHOWN_STRINGS else rf" + \dots \text{{ ({len(self)} strings)}}"
        return f"${shown}{more}$"


def identity() -> PauliSum:
    """The identity operator."""
    return PauliSum([(0, 0, 1.0)])


def X(site: int) -> PauliSum:
    r"""The Pauli matrix $X$ on one site; `X(0) * X(1)` acts on two.

    Example:
        >>> X(0) * Y(0), X(0) * X(0) + 0.5 * X(1) * X(2)
        (1j * Z0, 1.0 * I + 0.5 * X1 X2)
    """
    return PauliSum([(1 << check_index(site, "site"), 0, 1.0)])


def Y(site: int) -> PauliSum:
    r"""The Pauli matrix $Y = \mathrm{i} X Z$ on one site."""
    mask = 1 << check_index(site, "site")
    return PauliSum([(mask, mask, 1.0)])


def Z(site: int) -> PauliSum:
    r"""The Pauli matrix $Z$ on one site: +1 for spin up, the first basis state."""
    return PauliSum([(0, 1 << check_index(site, "site"), 1.0)])


def projector(sites: Sequence[int], outcome: Sequence[int]) -> PauliSum:
    r"""The projector on the outcome of a $Z$ measurement, $\prod_k (1 + s_k Z_{i_k}) / 2$.

    Args:
        sites: the measured sites $i_k$, without repetition, at most 16 (there are 2^len(sites) strings).
        outcome: the outcomes $s_k$, each +1 (up) or -1 (down), one for each site.

    Raises:
        ValueError: if a site is repeated, the lengths differ, or an outcome is not +1 or -1.

    Example:
        >>> projector([0, 1], [+1, -1])
        0.25 * I + 0.25 * Z0 - 0.25 * Z1 - 0.25 * Z0 Z1
    """
    sites = [check_index(site, "sites") for site in sites]
    if len(set(sites)) < len(sites) or len(sites) > _MAX_PROJECTOR_SITES:
        raise ValueError(f"Argument `sites` must hold at most {_MAX_PROJECTOR_SITES} different sites, but is {sites}.")
    if len(outcome) != len(sites) or any(isinstance(s, bool) or s not in (1, -1) for s in outcome):
        raise ValueError(f"Argument `outcome` must hold +1 or -1 for each of the {len(sites)} sites, but is {outcome}.")
    terms: list[Term] = [(0, 0, 0.5 ** len(sites))]
    for site, s in zip(sites, outcome, strict=True):
        terms += [(0, z | 1 << site, c * int(s)) for _, z, c in terms]
    return PauliSum(terms)


def _multiply(x1: int, z1: int, c1: complex, x2: int, z2: int, c2: complex) -> Term:
    """The product of two strings: moving Z past X gives a sign, and each Y is i X Z."""
    x, z = x1 ^ x2, z1 ^ z2
    power = (x1 & z1).bit_count() + (x2 & z2).bit_count() - (x & z).bit_count() + 2 * (z1 & x2).bit_count()
    return x, z, c1 * c2 * _IMAGINARY_POWERS[power % 4]


def _collect(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Add equal strings, drop zeros and sort.

    `fsum` rounds once, whatever the order of the terms, so that what cancels in exact arithmetic in pairs (the
    imaginary part of the square of a Hermitian operator, a commutator) is exactly zero here.
    """
    contributions: dict[tuple[int, int], list[complex]] = {}
    for x, z, c in terms:
        contributions.setdefault((x, z), []).append(c)
    collected: list[Term] = []
    for x, z in sorted(contributions):
        coefficients = contributions[x, z]
        try:
            real = math.fsum(c.real for c in coefficients) + 0.0  # + 0.0 makes a negative zero positive
            imag = math.fsum(c.imag for c in coefficients) + 0.0
        except (OverflowError, ValueError):  # intermediate overflow, or inf - inf
            real = imag = math.nan
        if not math.isfinite(real) or not math.isfinite(imag):
            raise ValueError(f"The coefficient of {conversion.write_label(x, z)} must be finite, but overflows.")
        if real or imag:
            collected.append((x, z, complex(real, imag) if imag else real))
    return tuple(collected)
