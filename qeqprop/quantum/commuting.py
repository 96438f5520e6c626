r"""Which Pauli strings can be read together: one product basis a setting.

A *setting* reads every site in one of the bases X, Y, Z (or not at all: I). The shots of one setting give every string
whose letters agree with it, e.g. "ZZX" gives Z0, Z0 Z1, X2, Z1 X2, ... Strings that share a setting commute site by
site ("qubit-wise"). The strings of a transverse-field Ising network need two settings, whatever its size.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .conversion import sites_of, write_label
from .pauli import PauliSum

String = tuple[int, int]

_LETTERS = {(0, 0): "I", (1, 0): "X", (0, 1): "Z", (1, 1): "Y"}


class ReadTable(NamedTuple):
    """The distinct Hermitian strings P(x, z) of some observables, observable k = sum_s coefficients[k, s] P_s."""

    strings: tuple[String, ...]
    coefficients: sp.csr_array


@functools.lru_cache(maxsize=256)
def read_table(observables: tuple[PauliSum, ...]) -> ReadTable:
    """What has to be read for the expectation values of the observables."""
    columns: dict[String, int] = {}
    entries = [
        (row, columns.setdefault((x, z), len(columns)), c.real)
        for row, observable in enumerate(observables)
        for x, z, c in observable
    ]
    rows, cols, values = np.array(entries, dtype=np.float64).reshape(-1, 3).T
    shape = (len(observables), len(columns))
    return ReadTable(tuple(columns), sp.csr_array((values, (rows.astype(int), cols.astype(int))), shape=shape))


def basis_of(strings: Iterable[String], n_sites: int, *, rest: str = "I") -> str:
    """The setting that reads all strings; sites that none of them acts on get the letter `rest`.

    Raises:
        ValueError: two strings that no setting reads together.

    Example:
        >>> from qeqprop.quantum.pauli import X, Z
        >>> basis_of([term[:2] for term in X(0) * Z(2) + Z(2)], 4)
        'XIZI'
    """
    letters = ["I"] * n_sites
    owner: dict[int, String] = {}
    for x, z in strings:
        for site in sites_of(x | z):
            letter = _LETTERS[x >> site & 1, z >> site & 1]
            if site in owner and letters[site] != letter:
                raise ValueError(_clash(owner[site], (x, z), site))
            letters[site], owner[site] = letter, (x, z)
    return "".join(rest if letter == "I" else letter for letter in letters)


def _clash(first: String, second: String, site: int) -> str:
    a, b = (PauliSum([(*string, 1.0)]) for string in (first, second))
    names = f"{write_label(*first)} and {write_label(*second)}"
    if a.commutes_with(b):
        return (
            f"{names} commute, but not site by site (site {site}): reading both at once takes entangling gates before "
            "the read-out. Put them into different groups."
        )
    return f"{names} do not commute (site {site}): no setting reads both. Put them into different groups."


def covers(basis: str, string: String) -> bool:
    """Whether the shots of a setting give a string.

    Example:
        >>> covers("ZZX", (0b100, 0b010)), covers("ZZX", (0b010, 0b100))  # Z1 X2, X1 Z2
        (True, False)
    """
    x, z = string
    return all(site < len(basis) and basis[site] == _LETTERS[x >> site & 1, z >> site & 1] for site in sites_of(x | z))


@functools.lru_cache(maxsize=64)
def commuting_bases(observables: tuple[PauliSum, ...], n_sites: int) -> tuple[str, ...]:
    """Few settings that read all strings of the observables: greedy, the longest strings first.

    Every string joins the first setting that it agrees with, and opens a new one where there is none. The least number
    is a graph colouring (NP-hard). Sites that no string of a setting acts on are read in Z.

    Example:
        >>> from qeqprop.quantum.pauli import X, Y, Z
        >>> commuting_bases((Z(0) * Z(1), Z(1) * Z(2), X(0) + X(1), Y(2)), 3)
        ('ZZZ', 'XXY')
    """
    groups: list[list[String]] = []
    strings = [string for string in read_table(observables).strings if string != (0, 0)]
    for string in sorted(strings, key=lambda s: -(s[0] | s[1]).bit_count()):  # stable: ties keep their order
        home = next((group for group in groups if _agrees(group, string, n_sites)), None)
        if home is None:
            groups.append([string])
        else:
            home.append(string)
    return tuple(basis_of(group, n_sites, rest="Z") for group in groups)


def _agrees(group: list[String], string: String, n_sites: int) -> bool:
    x, z = string
    basis = basis_of(group, n_sites)
    return all(basis[site] in ("I", _LETTERS[x >> site & 1, z >> site & 1]) for site in sites_of(x | z))


@functools.lru_cache(maxsize=64)
def single_bases(observables: tuple[PauliSum, ...], n_sites: int) -> tuple[str, ...]:
    """One setting for every string; the sites beside it are not read."""
    return tuple(basis_of([string], n_sites) for string in read_table(observables).strings if string != (0, 0))


def check_bases(bases: Any) -> tuple[str, ...]:
    """Settings as users give them: letters site by site, or a list of Pauli sums to be read together.

    Raises:
        TypeError, ValueError: not a list, unknown letters, a setting twice, a group that no setting reads.

    Example:
        >>> from qeqprop.quantum.pauli import X, Z
        >>> check_bases(["ZZ", [X(0), X(1)]])
        ('ZZ', 'XX')
        >>> check_bases([[X(0), Z(0)]])
        Traceback (most recent call last):
        ...
        ValueError: Argument `bases[0]`: X0 and Z0 do not commute (site 0): no setting reads both. ...
    """
    if isinstance(bases, str) or not isinstance(bases, Sequence) or not bases:
        raise TypeError(
            f"Argument `bases` must be 'commuting', 'single' or a list such as ['ZZZ', 'XXX'], but is {bases!r}."
        )
    checked = tuple(_check_basis(basis, k) for k, basis in enumerate(bases))
    if len(set(checked)) < len(checked):
        raise ValueError(f"Argument `bases` must have every setting once, but is {list(checked)}.")
    return checked


def _check_basis(basis: Any, k: int) -> str:
    if isinstance(basis, str):
        if not basis or set(basis) - set("IXYZRP"):
            raise ValueError(f"Argument `bases[{k}]` must have the letters X, Y, Z and I, but is {basis!r}.")
        return basis
    if not isinstance(basis, Sequence) or not basis or not all(isinstance(part, PauliSum) for part in basis):
        raise TypeError(f"Argument `bases[{k}]` must be letters such as 'ZZX' or a list of Pauli sums, not {basis!r}.")
    try:
        return basis_of(read_table(tuple(basis)).strings, max(part.max_site for part in basis) + 1)
    except ValueError as error:
        raise ValueError(f"Argument `bases[{k}]`: {error}") from None
