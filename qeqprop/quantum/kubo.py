r"""The static susceptibility of a system's own forces: a square response matrix.

.. math:: \chi_{kj} = \frac{d\langle A_k \rangle}{d\theta_j} , \qquad A_k = \frac{\partial H}{\partial\theta_k}

with the operators A_k held fixed. It is the Kubo susceptibility at zero frequency: symmetric (Onsager reciprocity), and
negative semidefinite in ground and Gibbs states, because the equilibrium energy is concave in what is linear in H.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core.response import ResponseMatrix, response_matrix
from ..core.system import AbstractSystem, Params, replaced
from .operators import OperatorSystem
from .oscillators import HarmonicNetwork
from .quadratic import P, Quadratic, R
from .spins import AbstractSpinSystem


@functools.singledispatch
def force_operators(system: AbstractSystem, params: Params) -> dict[str, list[Any]]:
    """The operators dH/dtheta_k of every parameter, flattened in the order of its array.

    Example:
        >>> import qeqprop as qp
        >>> from qeqprop.quantum import force_operators
        >>> force_operators(qp.TransverseFieldIsing(2, [(0, 1)]), {})["J"]
        [-1.0 * Z0 Z1]
    """
    raise TypeError(f"The forces of a {type(system).__name__} are not known as operators: use `response_matrix`.")


@force_operators.register
def _(system: AbstractSpinSystem, params: Params) -> dict[str, list[Any]]:
    factors = system.forces(np.ones(sum(len(operators) for _, operators in system.terms)))  # the inputs that drive them
    return {
        name: [operator * float(s) for operator, s in zip(operators, factors[name], strict=True)]
        for name, operators in system.terms
    }


@force_operators.register
def _(system: OperatorSystem, params: Params) -> dict[str, list[Any]]:
    return {name: list(operators) for name, operators in system.terms}


@force_operators.register
def _(system: HarmonicNetwork, params: Params) -> dict[str, list[Any]]:
    def value(name: str) -> np.ndarray:
        array = np.asarray(params[name] if name in params else system.fixed[name])
        return array.reshape(-1, system.components) if name == "l" else array

    axes, nodes = range(system.components), range(system.n_sites)
    stretch = [[R(i, c) - R(j, c) - float(value("l")[e, c]) for c in axes] for e, (i, j) in enumerate(system.edges)]
    forces = {
        "k": [_sum(0.5 * s**2 for s in edge) for edge in stretch],
        "l": [-float(value("k")[e]) * s for e, edge in enumerate(stretch) for s in edge],
        "kappa": [_sum(0.5 * R(i, c) ** 2 for c in axes) for i in nodes],
        "f": [-1.0 * R(i, c) for i in nodes for c in axes],
        "m": [_sum(P(i, c) ** 2 for c in axes) * (-0.5 / float(value("m")[i]) ** 2) for i in nodes],
    }
    return {name: forces[name] for name in system.param_shapes}


def _sum(parts: Any) -> Quadratic:
    return sum(parts, Quadratic())


def susceptibility(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    names: Sequence[str] | None = None,
    *,
    inputs: ArrayLike | None = None,
    **options: Any,
) -> ResponseMatrix:
    r"""chi_kj = d<dH/dtheta_k>/dtheta_j at fixed operators: the response of every force to every parameter.

    Rows and columns are the same parameters in the same order, so that `.matrix` is square and symmetric.

    Args:
        system: spins, operators of your own, or a harmonic network.
        params: dict of arrays with the names and shapes of `system.param_shapes`.
        names: the parameters wanted; None takes all. `FreeFermions`, say, knows no response to `h`.
        inputs: shape `system.input_shape`; no batch axis.
        **options: `solver`, `scheme`, `init`, `key`, `throw` of `response_matrix`.

    Reference: R. Kubo, J. Phys. Soc. Jpn. 12, 570 (1957); L. Onsager, Phys. Rev. 37, 405 (1931).

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=3, edges=[(0, 1), (1, 2)])
        >>> params = {"J": [1.0, 0.5], "h": [0.2, 0.1, 0.3], "g": [1.0, 1.0, 0.8]}
        >>> chi = qp.quantum.susceptibility(net, params, ["h"]).matrix
        >>> bool(np.allclose(chi, chi.T)), bool(np.linalg.eigvalsh(chi).max() < 0)
        (True, True)
    """
    checked = system.check_params(params)
    names = list(system.param_shapes) if names is None else list(names)
    if not names or any(name not in system.param_shapes for name in names):
        raise ValueError(f"Argument `names` must be some of {list(system.param_shapes)}, but is {names}.")
    forces = force_operators(system if inputs is None else system.with_inputs(inputs), checked)
    rows = {
        "dH/d" + name + (f"[{', '.join(map(str, index))}]" if index else ""): operator
        for name in names
        for index, operator in zip(np.ndindex(system.param_shapes[name]), forces[name], strict=True)
    }
    out = response_matrix(system, checked, rows, inputs=inputs, **options)
    parts = {field: {name: getattr(out, field)[name] for name in names} for field in ("grad", "stderr", "truncation")}
    return replaced(out, **parts)
