r"""Pauli sums as text, as kernel tables and matrices, and as operators of QuTiP, NetKet and QuSpin.

The functions are the methods of `PauliSum`. Everywhere, site 0 is the most significant bit of the basis index and a bit
is 0 for spin up ($Z = +1$): with two sites the basis is up-up, up-down, down-up, down-down. QuTiP's tensor products,
NetKet's `Spin(1/2)` and QuSpin's `spin_basis_1d(n, pauli=1)` list their states in this order too.
"""

import importlib
import operator as python_operator
import re
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

if TYPE_CHECKING:
    from qeqprop.quantum.pauli import PauliSum, Term

MEMORY_LIMIT_GIB = 16.0  # matrices above this are refused
_MAX_DECOMPOSED_SITES = 12
_MAX_DECOMPOSED_STRINGS = 1 << 20
_MAX_SITES = 62  # masks are int64
_NETKET_SMALLEST = 1e-6

_FLOAT = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?j?"
_LABEL = r"(?:[XYZ]\d+(?:\s*[XYZ]\d+)*|I)"
_TERM = re.compile(rf"\s*(?P<sign>[+-]?)\s*(?P<number>{_FLOAT}|\([^()]*\))?\s*(?P<star>\*?)\s*(?P<label>{_LABEL})?\s*")


def kernel_strings(operator: "PauliSum", n_sites: int) -> tuple[NDArray, NDArray, NDArray]:
    r"""The strings as arrays for matrix-free kernels.

    String $k$ maps $|s\rangle$ to $c_k (-1)^{\mathrm{popcount}(s \wedge z_k)} |s \oplus x_k\rangle$.

    Args:
        n_sites: number of sites, at most 62.

    Returns:
        `x` and `z`, int64 of shape (K,), masks of basis indices (site 0 is the most significant of n_sites bits), and
        `c` of shape (K,), the coefficients times i to the number of Y's: float64 if `is_real`, else complex128.

    Raises:
        ValueError: if the operator acts beyond the last site, or n_sites is not in 1, ..., 62.

    Example:
        >>> from qeqprop.quantum.pauli import X, Z
        >>> (X(0) - 2 * Z(2)).kernel_strings(3)
        (array([0, 4]), array([1, 0]), array([-2.,  1.]))
    """
    _check_sites(operator, n_sites)
    x = np.array([_reverse_bits(x, n_sites) for x, _, _ in operator], dtype=np.int64)
    z = np.array([_reverse_bits(z, n_sites) for _, z, _ in operator], dtype=np.int64)
    coefficients = np.array([c for _, _, c in operator], dtype=np.complex128) * _phases(x, z)
    return x, z, coefficients.real.copy() if operator.is_real else coefficients


def to_scipy(operator: "PauliSum", n_sites: int) -> sp.csr_array:
    r"""The sparse matrix of shape $(2^n, 2^n)$: float64 if `is_real`, else complex128.

    Raises:
        ValueError: if the operator acts beyond the last site or the matrix needs more than 16 GiB.

    Example:
        >>> from qeqprop.quantum.pauli import Y
        >>> Y(0).to_scipy(1).toarray()
        array([[0.+0.j, 0.-1.j],
               [0.+1.j, 0.+0.j]])
    """
    x, z, coefficients = kernel_strings(operator, n_sites)
    flips, group = np.unique(x, return_inverse=True)
    dim, n_entries = 1 << n_sites, len(flips) << n_sites
    index_type: Any = np.int32 if n_entries < 2**31 else np.int64
    # Twice: sorting and the temporaries of the last diagonal.
    entry_bytes = 2 * (coefficients.itemsize + np.dtype(index_type).itemsize)
    _check_memory(n_entries * entry_bytes, n_sites, f"a sparse matrix with {len(flips)} entries per row")
    rows = np.arange(dim, dtype=np.int64)
    columns = np.empty((dim, len(flips)), dtype=index_type)
    values = np.empty((dim, len(flips)), dtype=coefficients.dtype)
    for k, flip in enumerate(flips):
        columns[:, k] = rows ^ flip
        values[:, k] = _diagonal(z[group == k], coefficients[group == k], n_sites)[columns[:, k]]
    starts = len(flips) * np.arange(dim + 1, dtype=index_type)
    matrix = sp.csr_array((values.reshape(-1), columns.reshape(-1), starts), shape=(dim, dim))
    matrix.eliminate_zeros()  # such as X X + Y Y between parallel spins
    matrix.sort_indices()
    return matrix


def to_dense(operator: "PauliSum", n_sites: int) -> NDArray:
    r"""The dense matrix of shape $(2^n, 2^n)$: float64 if `is_real`, else complex128.

    Raises:
        ValueError: if the operator acts beyond the last site or the matrix needs more than 16 GiB.
    """
    _check_sites(operator, n_sites)
    _check_memory((8 if operator.is_real else 16) << 2 * n_sites, n_sites, "a dense matrix")
    x, z, coefficients = kernel_strings(operator, n_sites)
    matrix = np.zeros((1 << n_sites, 1 << n_sites), dtype=coefficients.dtype)
    columns = np.arange(1 << n_sites)
    for flip in np.unique(x):
        matrix[columns ^ flip, columns] = _diagonal(z[x == flip], coefficients[x == flip], n_sites)
    return matrix


def from_matrix(cls: "type[PauliSum]", matrix: Any, tolerance: float = 1e-12) -> "PauliSum":
    r"""The Pauli decomposition of a matrix, $c_k = \mathrm{Tr}(P_k \hat O) / 2^n$.

    A fast Walsh-Hadamard transform for each distinct set of flipped spins, $O(n\,4^n)$ for a full matrix.

    Args:
        matrix: dense or SciPy sparse, of shape $(2^n, 2^n)$, $1 \le n \le 12$.
        tolerance: real and imaginary parts up to `tolerance` times the largest coefficient are rounding, and dropped.

    Raises:
        ValueError: if the shape is not $(2^n, 2^n)$, an entry is not finite, or there are more than 2^20 strings.

    Example:
        >>> from qeqprop.quantum.pauli import PauliSum
        >>> PauliSum.from_matrix([[1.0, 0.5], [0.5, -1.0]])
        1.0 * Z0 + 0.5 * X0
    """
    entries = sp.coo_array(matrix if sp.issparse(matrix) else np.asarray(matrix))
    entries.sum_duplicates()
    dim = entries.shape[0]
    n_sites = dim.bit_length() - 1
    if entries.ndim != 2 or entries.shape != (1 << n_sites, 1 << n_sites) or not 1 <= n_sites <= _MAX_DECOMPOSED_SITES:
        limit = f"(2^n, 2^n) with n = 1, ..., {_MAX_DECOMPOSED_SITES}"
        raise ValueError(f"Argument `matrix` must have shape {limit}, but has shape {entries.shape}.")
    if not np.isfinite(entries.data).all():
        raise ValueError("Argument `matrix` must be finite, but has NaN or infinite entries.")
    row, column = (np.asarray(index, dtype=np.int64) for index in entries.coords)
    x, group = np.unique(row ^ column, return_inverse=True)
    coefficients = np.zeros((len(x), dim), dtype=np.complex128)
    coefficients[group, column] = entries.data
    _walsh_hadamard(coefficients)
    coefficients *= _phases(x[:, None], np.arange(dim)).conj() / dim
    return cls(_significant_terms(x, coefficients, n_sites, tolerance))


def to_qutip(operator: "PauliSum", n_sites: int) -> Any:
    """The `qutip.Qobj` with dims `[[2] * n, [2] * n]`, stored as CSR.

    Raises:
        ValueError: if the operator acts beyond the last site or the matrix needs more than 16 GiB.
    """
    qutip = _require("qutip")
    matrix = sp.csr_matrix(to_scipy(operator, n_sites).astype(np.complex128))
    return qutip.Qobj(matrix, dims=[[2] * n_sites, [2] * n_sites])


def from_qutip(cls: "type[PauliSum]", qobj: Any, tolerance: float = 1e-12) -> "PauliSum":
    """The Pauli sum of a `qutip.Qobj` on at most 12 qubits; see `from_matrix`.

    Raises:
        TypeError: if it is not a Qobj.
        ValueError: if its dims are not `[[2] * n, [2] * n]`.
    """
    qutip = _require("qutip")
    if not isinstance(qobj, qutip.Qobj):
        raise TypeError(f"Argument `qobj` must be a qutip.Qobj, but is {type(qobj).__name__}.")
    n_sites = qobj.shape[0].bit_length() - 1
    if qobj.dims != [[2] * n_sites, [2] * n_sites]:
        raise ValueError(f"Argument `qobj` must have dims [[2] * n, [2] * n], but has dims {qobj.dims}.")
    return cls.from_matrix(qobj.to("csr").data_as("csr_matrix"), tolerance)


def to_netket(operator: "PauliSum", n_sites: int, hilbert: Any = None) -> Any:
    """The `netket.operator.PauliStrings`.

    Args:
        hilbert: a NetKet space of n_sites two-level systems that lists spin up first; `Spin(1/2, n_sites)` by default.

    Raises:
        ValueError: if the space has another size; if it lists spin down first (`inverted_ordering=True`), where
            NetKet's own Z is +1 on samples that say -1; or if all coefficients are below 1e-6.
    """
    netket = _require("netket")
    _check_sites(operator, n_sites)
    if hilbert is None:
        hilbert = netket.hilbert.Spin(0.5, n_sites)
    if hilbert.size != n_sites:
        raise ValueError(f"Argument `hilbert` must have n_sites={n_sites} sites, but has {hilbert.size}.")
    _check_netket_space(hilbert, "hilbert")
    labels = ["".join("IXZY"[(x >> i & 1) + 2 * (z >> i & 1)] for i in range(n_sites)) for x, z, _ in operator]
    largest = max((abs(c) for _, _, c in operator), default=1.0)
    if largest < _NETKET_SMALLEST:
        expected = f"a coefficient above {_NETKET_SMALLEST:g}, since NetKet takes matrix elements below 1e-10 for zero,"
        raise ValueError(
            f"Argument `operator` must have {expected} but the largest is {largest:.3g}: change the units."
        )
    # NetKet drops strings below 1e-8 when it reads them, but not when it scales them. Powers of two are exact.
    large = [c * 2.0**40 for _, _, c in operator]
    return netket.operator.PauliStrings(hilbert, labels, large, cutoff=0.0) * 2.0**-40


def from_netket(cls: "type[PauliSum]", operator: Any, tolerance: float = 1e-12) -> "PauliSum":
    """The Pauli sum of a NetKet operator on two-level systems: `PauliStrings`, `LocalOperator`, `Ising`, ...

    Args:
        tolerance: coefficients up to `tolerance` times the largest are rounding of NetKet's conversion, and dropped.

    Raises:
        TypeError: if NetKet cannot write the operator as Pauli strings.
        ValueError: if a site has not two states, or spin down is listed first.
    """
    netket = _require("netket")
    if not isinstance(operator, netket.operator.DiscreteOperator):
        raise TypeError(f"Argument `operator` must be a discrete NetKet operator, but is {type(operator).__name__}.")
    _check_netket_space(operator.hilbert, "operator.hilbert")
    if hasattr(operator, "to_local_operator"):
        operator = operator.to_local_operator()
    if hasattr(operator, "to_pauli_strings"):
        operator = operator.to_pauli_strings()
    if not hasattr(operator, "operators") or not hasattr(operator, "weights"):
        raise TypeError(f"Argument `operator` must have a form as Pauli strings, but is {type(operator).__name__}.")
    weights = _round_off(np.array(operator.weights, dtype=np.complex128), tolerance)
    labels = (" ".join(f"{a}{i}" for i, a in enumerate(label) if a != "I") or "I" for label in operator.operators)
    return cls((*read_label(label), complex(c)) for label, c in zip(labels, weights, strict=True))


def to_quspin(operator: "PauliSum", n_sites: int) -> list[list[Any]]:
    """The static list for `quspin.operators.hamiltonian`, in the basis `spin_basis_1d(n_sites, pauli=1)`.

    Use `dtype=numpy.complex128` unless `is_real`.

    Raises:
        ValueError: if the operator acts beyond the last site.

    Example:
        >>> from qeqprop.quantum.pauli import X, Z
        >>> (X(1) - 0.5 * Z(0) * Z(2)).to_quspin(3)
        [['zz', [[-0.5, 0, 2]]], ['x', [[1.0, 1]]]]
    """
    _check_sites(operator, n_sites)
    couplings: dict[str, list[list[complex]]] = {}
    for x, z, c in operator:
        sites = sites_of(x | z)
        letters = "".join("ixzy"[(x >> i & 1) + 2 * (z >> i & 1)] for i in sites) or "I"
        couplings.setdefault(letters, []).append([c, *(sites or (0,))])
    return [[letters, terms] for letters, terms in couplings.items()]


def write_label(x: int, z: int) -> str:
    """The label of a string, such as `X0 Z3`."""
    letters = (f"{'IXZY'[(x >> site & 1) + 2 * (z >> site & 1)]}{site}" for site in sites_of(x | z))
    return " ".join(letters) or "I"


def write_terms(terms: "Sequence[Term]", number: Callable[[complex], str] = repr, times: str = " * ") -> str:
    """A sum of strings, such as `-1.0 * Z0 Z1 + 0.5 * X2`; exact with the default `number`."""
    text = ""
    for x, z, c in terms:
        negative = (c.real or c.imag) < 0 and not (c.real and c.imag)
        sign = (" - " if negative else " + ") if text else ("-" if negative else "")
        text += f"{sign}{number(0 - c if negative else c)}{times}{write_label(x, z)}"
    return text or "0"


def write_latex(terms: "Sequence[Term]") -> str:
    """A sum of strings as LaTeX, with coefficients to six digits."""

    def number(c: complex) -> str:
        digits = f"({c:.6g})" if c.real and c.imag else f"{c.imag:.6g}j" if c.imag else f"{c.real:.6g}"
        digits = re.sub(r"e([+-]\d+)", lambda exponent: rf" \times 10^{{{int(exponent[1])}}}", digits)
        return digits.replace("j", r"\mathrm{i}")

    return re.sub(r"([XYZ])(\d+)", r"\1_{\2}", write_terms(terms, number, times=r"\,"))


def read_label(label: str) -> tuple[int, int]:
    """The masks of a label."""
    factors = re.findall(r"([XYZ])(\d+)", label)
    sites = [int(site) for _, site in factors]
    if not re.fullmatch(_LABEL, label.strip()) or len(set(sites)) < len(sites):
        raise ValueError(f"A label must name different sites, such as 'Z0 Z1', or be 'I', but is {label!r}.")
    x = sum(1 << site for (letter, _), site in zip(factors, sites, strict=True) if letter in "XY")
    z = sum(1 << site for (letter, _), site in zip(factors, sites, strict=True) if letter in "ZY")
    return x, z


def read_terms(text: str) -> "Iterator[Term]":
    """The terms of a sum as `write_terms` writes it; also `X0 - 2 Z1`, and numbers for multiples of the identity."""
    position = 0
    while position < len(text) or position == 0:
        term = _TERM.match(text, position)
        assert term is not None  # every part of the pattern is optional
        sign, number, star, label = term.group("sign", "number", "star", "label")
        coefficient = _read_number(number)
        joined = position > 0 and not sign
        if joined or coefficient is None or not (number or label) or (star and not (number and label)):
            expected = "a sum such as '-1.0 * Z0 Z1 + 0.5 * X2'"
            unread = text[position : position + 20]
            raise ValueError(f"Argument `text` must be {expected}, but cannot be read at {unread!r}.")
        yield (*read_label(label or "I"), -coefficient if sign == "-" else coefficient)
        position = term.end()


def _read_number(number: str | None) -> complex | None:
    try:
        return complex(number.strip("()").replace(" ", "")) if number else 1.0
    except ValueError:
        return None


def sites_of(mask: int) -> tuple[int, ...]:
    """The sites whose bits are set, in ascending order."""
    return tuple(site for site in range(mask.bit_length()) if mask >> site & 1)


def _reverse_bits(mask: int, n_bits: int) -> int:
    """Between masks over sites (bit i is site i) and masks of basis indices (site 0 is the most significant bit)."""
    return int(f"{mask:0{n_bits}b}"[::-1], 2)


def _phases(x: NDArray, z: NDArray) -> NDArray:
    """i to the number of Y's, each Y being i X Z."""
    return np.array([1, 1j, -1, -1j])[np.bitwise_count(x & z) % 4]


def _diagonal(z: NDArray, coefficients: NDArray, n_sites: int) -> NDArray:
    """sum_k c_k (-1)^popcount(s & z_k) for all basis states s."""
    diagonal = np.zeros(1 << n_sites, dtype=coefficients.dtype)
    if len(z) > n_sites:  # then the transform needs fewer operations
        diagonal[z] = coefficients
        _walsh_hadamard(diagonal)
        return diagonal
    states = np.arange(len(diagonal))
    for mask, c in zip(z, coefficients, strict=True):
        diagonal += c * (1.0 - 2.0 * (np.bitwise_count(states & mask) & 1))
    return diagonal


def _walsh_hadamard(values: NDArray) -> None:
    """In place along the last axis, unnormalised: values[..., s] becomes sum_t (-1)^popcount(s & t) values[..., t]."""
    dim = values.shape[-1]
    half = 1
    while half < dim:
        pairs = values.reshape(*values.shape[:-1], dim // (2 * half), 2, half)
        upper = pairs[..., 0, :].copy()
        pairs[..., 0, :] += pairs[..., 1, :]
        np.subtract(upper, pairs[..., 1, :], out=pairs[..., 1, :])
        half *= 2


def _round_off(coefficients: NDArray, tolerance: float) -> NDArray:
    """Set real and imaginary parts to zero that are rounding errors of the largest coefficient."""
    if not tolerance >= 0:
        raise ValueError(f"Argument `tolerance` must be non-negative, but is {tolerance}.")
    threshold = tolerance * np.abs(coefficients).max(initial=0.0)
    coefficients.real[np.abs(coefficients.real) <= threshold] = 0.0
    coefficients.imag[np.abs(coefficients.imag) <= threshold] = 0.0
    return coefficients


def _significant_terms(x: NDArray, coefficients: NDArray, n_sites: int, tolerance: float) -> "Iterator[Term]":
    """The terms with masks over sites, of coefficients [index of x, z] with masks of basis indices."""
    flips, z = np.nonzero(_round_off(coefficients, tolerance))
    if len(z) > _MAX_DECOMPOSED_STRINGS:
        limit = f"at most {_MAX_DECOMPOSED_STRINGS} strings above the tolerance"
        raise ValueError(f"Argument `matrix` must have {limit}, but has {len(z)}.")
    for flip, mask in zip(flips.tolist(), z.tolist(), strict=True):
        yield _reverse_bits(int(x[flip]), n_sites), _reverse_bits(mask, n_sites), complex(coefficients[flip, mask])


def _check_sites(operator: "PauliSum", n_sites: int) -> None:
    try:
        valid = not isinstance(n_sites, bool) and 1 <= python_operator.index(n_sites) <= _MAX_SITES
    except TypeError:
        valid = False
    if not valid:
        raise ValueError(f"Argument `n_sites` must be an integer from 1 to {_MAX_SITES}, but is {n_sites!r}.")
    if operator.max_site >= n_sites:
        sites = f"n_sites={n_sites} (sites 0 to {n_sites - 1})"
        raise ValueError(f"Argument `operator` acts on site {operator.max_site}, but the system has {sites}.")


def _check_memory(n_bytes: int, n_sites: int, what: str) -> None:
    size = n_bytes / 2**30
    if size > MEMORY_LIMIT_GIB:
        raise ValueError(
            f"Argument `n_sites` must be smaller for {what} to fit into {MEMORY_LIMIT_GIB:g} GiB, "
            f"but n_sites={n_sites} needs {size:.3g} GiB. `kernel_strings` is the input for matrix-free methods."
        )


def _check_netket_space(hilbert: Any, name: str) -> None:
    states = list(getattr(hilbert, "local_states", []))
    if states not in ([1, -1], [0, 1]):
        expected = "two states a site, spin up first: [1, -1], or [0, 1] for qubits"
        raise ValueError(f"Argument `{name}` must have {expected}, but has local states {states}.")


def _require(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"This conversion needs {package}: `pip install {package}`.") from error
