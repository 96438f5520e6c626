r"""A sum of Pauli strings as a matrix product operator of the smallest bond dimension.

Every string that crosses a bond is a left part times a right part, so that the strings across it are a matrix
C[left part, right part]; its rank is the number of channels that the bond needs. The sites are taken from left to
right: the tensors W_0 .. W_(k-1) hold the left parts, and a matrix M_k[channel, right part] what is still to come. One
site more splits off each right part's first letter,

    N[(channel, letter), right part] = M_k[channel, letter + right part] ,

and the singular value decomposition N = U M_(k+1) gives the tensor W_k = U. Two more channels carry "nothing has begun"
(the first) and "all is done" (the last); what is done is never mixed with what crosses, so that large energies on one
side cost no accuracy (Hubig, McCulloch, Schollwoeck, Phys. Rev. B 95, 035129 (2017)).

A nearest-neighbour chain has bond dimension 3, a lattice of width w has w + 2, and couplings that fall off as a sum of m
exponentials have m + 2, whatever their range.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .pauli import PauliSum

IDENTITY = 0
LETTERS = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
"""I, X, Y, Z as matrices; spin up comes first."""
ROTATED = np.array([LETTERS[0], LETTERS[1], 1j * LETTERS[2], LETTERS[3]]).real
"""I, X, iY, Z: real."""
RANK = 1e-15
"""Singular values below this part of the largest are rounding."""


class StringSum(NamedTuple):
    """Distinct Pauli strings along a chain, without the identity, with their coefficients.

    Attributes:
        letters: (n_strings, n_sites) 0 .. 3 for I, X, Y, Z at each *position* of the chain.
        coefficients: (n_strings,).
        constant: coefficient of the identity.
    """

    letters: np.ndarray
    coefficients: np.ndarray
    constant: float

    @property
    def is_real(self) -> bool:
        """Whether every string has an even number of Y's: then so is the matrix, and the ground state."""
        return not np.any(np.sum(self.letters == 2, axis=1) % 2)


def letters_of(masks: Sequence[tuple[int, int]], order: Sequence[int]) -> np.ndarray:
    """The letters of strings given as masks (x, z), shape (n_strings, n_sites), site `order[k]` at position k."""
    letters = np.zeros((len(masks), len(order)), dtype=np.uint8)
    position = {site: k for k, site in enumerate(order)}
    for row, (x, z) in enumerate(masks):
        rest = x | z
        while rest:
            bit = rest & -rest
            letters[row, position[bit.bit_length() - 1]] = (1 if x & bit else 3) if not (x & z & bit) else 2
            rest ^= bit
    return letters


def string_sum(operators: Sequence[PauliSum], strengths: np.ndarray, order: Sequence[int]) -> StringSum:
    """sum_k strengths[k] * operators[k] along a chain in the given order of the sites."""
    terms: dict[tuple[int, int], float] = {}
    for operator, strength in zip(operators, strengths, strict=True):
        for x, z, c in operator:
            terms[x, z] = terms.get((x, z), 0.0) + float(strength) * c.real
    constant = terms.pop((0, 0), 0.0)
    masks = [mask for mask, c in terms.items() if c != 0]
    return StringSum(letters_of(masks, order), np.array([terms[mask] for mask in masks]), constant)


def matrix_product_operator(h: StringSum, shift: float = 0.0) -> list[np.ndarray]:
    """H - constant + shift as tensors (left, right, ket, bra); the first left and the last right dimension are 1.

    Channel 0 of a bond is "nothing has begun" (all letters to its left are I), the last is "all is done".
    """
    n = h.letters.shape[1]
    matrices, coefficients = LETTERS, h.coefficients
    if h.is_real:
        ys = np.sum(h.letters == 2, axis=1)  # Y Y = -(iY)(iY)
        matrices, coefficients = ROTATED, coefficients * np.where(ys % 4 == 2, -1.0, 1.0)
    right = right_parts(h.letters)
    begins = np.argmax(h.letters != IDENTITY, axis=1)
    coming = np.zeros((0, 1))  # M[channel, right part]
    tensors = []
    for k in range(n):
        n_parts = int(right[k + 1].max(initial=0)) + 1
        split = np.zeros((len(coming) + 1, 4, n_parts))  # the first row: strings that begin here
        crossing = np.flatnonzero((begins < k) & (right[k] > 0))
        first = np.unique(right[k][crossing], return_index=True)[1]
        for s in crossing[first]:
            split[1:, h.letters[s, k], right[k + 1][s]] = coming[:, right[k][s]]
        new = np.flatnonzero(begins == k)
        split[0, h.letters[new, k], right[k + 1][new]] = coefficients[new]
        done, rest = split[:, :, 0].copy(), split.copy()
        if k == 0:
            done[0, IDENTITY] += shift
        rest[:, :, 0] = 0.0
        channels, coming = _factors(rest.reshape(-1, n_parts))
        W = np.zeros((len(split) + 1, channels.shape[1] + 2, 4))
        W[0, 0, IDENTITY] = W[-1, -1, IDENTITY] = 1.0
        W[:-1, -1] += done
        W[:-1, 1:-1] = channels.reshape(len(split), 4, -1).transpose(0, 2, 1)
        tensors.append(np.tensordot(W, matrices, axes=1))
    tensors[0], tensors[-1] = tensors[0][:1], tensors[-1][:, -1:]
    return tensors


def right_parts(letters: np.ndarray) -> list[np.ndarray]:
    """For each bond k = 0 .. n: which strings have the same letters from site k on; 0 are those with none left."""
    n = letters.shape[1]
    parts = [np.zeros(len(letters), dtype=np.int64)] * (n + 1)
    for k in range(n - 1, -1, -1):
        keys = np.concatenate([[0], 4 * parts[k + 1] + letters[:, k]])
        parts[k] = np.unique(keys, return_inverse=True)[1].reshape(-1)[1:]
    return parts


def _factors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U and S V^T of the numerical rank."""
    if not np.any(matrix):
        return matrix[:, :0], matrix[:0]
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int(np.sum(s > RANK * max(matrix.shape) * s[0]))
    return u[:, :rank], s[:rank, None] * vt[:rank]
