"""An oracle that uses nothing of the package: a dense matrix, `numpy.linalg.eigh`, and the sum over all states

    d<C>/dtheta_k = 2 Re sum_{n>0} <0|dH/dtheta_k|n><n|C|0> / (E_0 - E_n) ,    C = sum_j (dL/d<O_j>) O_j .

A `Case` is a problem in qeqprop's words and in matrices; the cases are gathered in `registry.py`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Params = dict[str, np.ndarray]

LETTERS = {"X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}


def on(n_sites: int, label: str) -> np.ndarray:
    """The matrix of a label such as "X0 Z2"; site 0 is the leftmost factor, spin up the first state."""
    letters = {int(part[1:]): LETTERS[part[0]] for part in label.split()}
    return functools.reduce(np.kron, [letters.get(site, np.eye(2)) for site in range(n_sites)])


def sum_over(values: Any, matrices: list[np.ndarray]) -> Any:
    """sum_k values[k] * matrices[k]."""
    return sum(v * m for v, m in zip(values, matrices, strict=True))


@dataclass(frozen=True)
class Solution:
    """What the oracle knows: mean loss, mean gradient, and of every sample energy and gap."""

    loss: float
    grad: Params
    energies: np.ndarray
    gaps: np.ndarray


@dataclass(frozen=True)
class Case:
    """A problem in qeqprop's words (system, params, nudge, target, inputs) and in matrices.

    `hamiltonian(params, inputs)` is linear in the parameters; `observables` and `loss(expectations, target)` define the
    cost. `real`: H and C are real matrices, so that complex nudges can be followed.
    """

    name: str
    system: Any
    params: Params
    nudge: Any
    hamiltonian: Callable[[Mapping[str, np.ndarray], Any], np.ndarray]
    observables: tuple[np.ndarray, ...]
    loss: Callable[[np.ndarray, Any], float] = lambda o, y: o[0]
    target: Any = None
    inputs: Any = None
    real: bool = True
    least: float = 0.05

    @property
    def problem(self) -> tuple[Any, ...]:
        """The positional arguments of `ep_gradient`."""
        return self.system, self.params, self.nudge, self.target

    @functools.cached_property
    def exact(self) -> Solution:
        """The oracle's answer."""
        samples = [(None, self.target)] if self.inputs is None else self._samples()
        single = [self._solve(x, y) for x, y in samples]
        return Solution(
            loss=float(np.mean([loss for loss, _, _, _ in single])),
            grad={name: np.mean([grad[name] for _, grad, _, _ in single], axis=0) for name in self.params},
            energies=np.array([energy for _, _, energy, _ in single]),
            gaps=np.array([gap for _, _, _, gap in single]),
        )

    def _samples(self) -> list[tuple[Any, Any]]:
        if np.ndim(self.inputs) == 1:
            return [(self.inputs, self.target)]
        targets = [None] * len(self.inputs) if self.target is None else self.target
        return list(zip(self.inputs, targets, strict=True))

    def _solve(self, x: Any, y: Any) -> tuple[float, Params, float, float]:
        zero = {name: np.zeros_like(value) for name, value in self.params.items()}
        offset = self.hamiltonian(zero, x)
        levels, states = np.linalg.eigh(self.hamiltonian(self.params, x))
        ground = states[:, 0]
        expectations = np.array([np.vdot(ground, o @ ground).real for o in self.observables])
        signal = difference_quotient(lambda o: self.loss(o, y), expectations)
        kicked = states[:, 1:].conj().T @ (sum_over(signal, list(self.observables)) @ ground)
        response = states[:, 1:] @ (kicked / (levels[0] - levels[1:]))
        grad = {}
        for name, value in self.params.items():
            grad[name] = np.zeros_like(value)
            for index in np.ndindex(value.shape):
                unit = {n: v.copy() for n, v in zero.items()}
                unit[name][index] = 1.0
                grad[name][index] = 2 * np.vdot(ground, (self.hamiltonian(unit, x) - offset) @ response).real
        return float(self.loss(expectations, y)), grad, levels[0], levels[1] - levels[0]

    def beta(self, ratio: float, free_state: Any) -> float:
        """The nudge at which beta*||C||/gap of the worst sample is `ratio`."""
        norm = self.nudge.term(free_state, self.target).norm_bound()
        return float(ratio / np.max(norm / self.exact.gaps.reshape(np.shape(norm))))


def difference_quotient(fn: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Derivatives by a fourth-order central difference."""
    out = np.zeros_like(at)
    for k in range(at.size):
        unit = np.eye(at.size)[k] * step
        out[k] = (8 * (fn(at + unit) - fn(at - unit)) - (fn(at + 2 * unit) - fn(at - 2 * unit))) / (12 * step)
    return out


def name_of(case: Case) -> str:
    """A readable test id."""
    return case.name.replace(" ", "_").replace(",", "")
