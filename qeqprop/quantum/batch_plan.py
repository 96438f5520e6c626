"""The Pauli strings that all samples of a batch share, sorted once by what they cost."""

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .batch_kernels import Groups

MAX_BITS = 14  # a Krylov basis of 64 vectors is then 8 MiB


class BatchPlan:
    """Pauli strings `P_k |s> = (-1)^popcount(s & zmasks[k]) |s ^ xmasks[k]>`; made once and reused.

    Args:
        n_bits: number of spins, 1 to 14; bit 0 of `s` is the least significant.
        xmasks: integers of shape `(K,)`, the bits each string flips.
        zmasks: integers of shape `(K,)`, the bits whose sign it reads. `popcount(x & z)` must be even.
    """

    def __init__(self, n_bits: int, xmasks: ArrayLike, zmasks: ArrayLike) -> None:
        if not 1 <= n_bits <= MAX_BITS:
            raise ValueError(f"Argument `n_bits` must be in 1..{MAX_BITS}, but is {n_bits}.")
        x, z = _masks("xmasks", xmasks, n_bits), _masks("zmasks", zmasks, n_bits)
        if x.shape != z.shape:
            raise ValueError(f"Arguments `xmasks` and `zmasks` must have one shape, but have {x.shape} and {z.shape}.")
        odd = np.flatnonzero(np.bitwise_count(x & z) % 2)
        if odd.size:
            raise ValueError(
                "Arguments `xmasks` and `zmasks` must have an even number of common bits (an even number of Y), "
                f"but string {odd[0]} has x={x[odd[0]]:#b}, z={z[odd[0]]:#b}."
            )
        self.n_bits = n_bits
        self.xmasks, self.zmasks = x, z
        self.groups = _group(x, z)

    @property
    def n_terms(self) -> int:
        """Number of strings `K`."""
        return self.xmasks.size

    @property
    def dimension(self) -> int:
        """Length of a state vector, `2^n_bits`."""
        return 1 << self.n_bits

    @property
    def flips_only(self) -> bool:
        """Are single flips the only off-diagonal elements?"""
        return self.groups.jump_x.size + self.groups.field_x.size == 0

    def __repr__(self) -> str:
        return f"BatchPlan(n_bits={self.n_bits}, n_terms={self.n_terms})"


def _group(x: NDArray[np.int64], z: NDArray[np.int64]) -> Groups:
    """Sort strings into diagonal, single flips without sign, other groups without sign, and groups with signs."""
    term = np.arange(x.size)
    diagonal = x == 0
    flip = (np.bitwise_count(x) == 1) & (z == 0)
    field_x = np.unique(x[~diagonal & (z != 0)])
    # A single flip without sign stays a flip even where its mask also has strings with signs.
    field = np.isin(x, field_x) & ~diagonal & ~flip
    jump = ~(diagonal | flip | field)
    jump_x = np.unique(x[jump])
    order = term[field][np.argsort(x[field], kind="stable")]
    return Groups(
        diagonal_term=term[diagonal],
        diagonal_z=z[diagonal],
        flip_term=term[flip],
        flip_bit=np.bitwise_count(x[flip] - 1).astype(np.int64),
        jump_term=term[jump],
        jump_group=np.searchsorted(jump_x, x[jump]),
        jump_x=jump_x,
        field_term=order,
        field_start=np.searchsorted(x[order], np.append(field_x, 1 << MAX_BITS)),
        field_z=z[order],
        field_x=field_x,
    )


def _masks(name: str, masks: ArrayLike, n_bits: int) -> NDArray[np.int64]:
    array = np.asarray(masks)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"Argument `{name}` must be a vector of integers, but has {array.shape=}, {array.dtype=}.")
    if array.size and not (array.min() >= 0 and array.max() < 1 << n_bits):
        raise ValueError(
            f"Argument `{name}` must have entries in 0..2^{n_bits} - 1, but has {array.min()}..{array.max()}."
        )
    return array.astype(np.int64)


@functools.lru_cache(maxsize=128)
def _plan(n_bits: int, x: bytes, z: bytes) -> BatchPlan:
    return BatchPlan(n_bits, np.frombuffer(x, dtype=np.int64), np.frombuffer(z, dtype=np.int64))


def plan_of(n_bits: int, x: ArrayLike, z: ArrayLike) -> BatchPlan:
    """The batch plan of some strings; masks that are int64 arrays already are sorted only once."""
    if not (isinstance(x, np.ndarray) and isinstance(z, np.ndarray) and x.dtype == z.dtype == np.int64):
        return BatchPlan(n_bits, x, z)
    return _plan(n_bits, x.tobytes(), z.tobytes())
