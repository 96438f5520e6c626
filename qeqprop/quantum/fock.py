"""Oscillator networks with anharmonic terms, in a truncated basis: the check of what is Gaussian, and what is not."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.memory import check_memory
from ..core.nudge import WeightedObservables, check_observables
from ..core.system import AbstractSystem, Params, real_array, replaced
from .fock_basis import FockBasis, as_matrix, bytes_needed, distance, operator, quartic
from .operators import MatrixOperator, OperatorSystem
from .oscillators import HarmonicNetwork
from .quadratic import P, Quadratic, R

if TYPE_CHECKING:
    from .fock_solver import FockSolver

ANHARMONIC = ("quartic", "length")
"""Names of the anharmonic terms."""


class FockSpace(AbstractSystem):
    r"""A `HarmonicNetwork` and anharmonic terms, as matrices in a truncated oscillator basis:

    .. math:: H + \sum_i c_i |r_i|^4 , \qquad
              \tfrac12 k_{ij} (r_i - r_j - l_{ij})^2 \to \tfrac12 k_{ij} (|r_i - r_j| - L_{ij})^2 .

    Parameters and costs are those of the network; the `quartic` strengths c and the rest lengths L (`length`, central
    springs) join where they are named in `trainable`, and are constant where they are in `fixed`. Central springs take the
    place of all springs. Nothing is assumed of the state: exact but for the truncation, which `FockSolver` watches.

    Args:
        network: the harmonic part, with hbar > 0. With central springs its l must be neither trained nor given.
        levels: states kept of every oscillator; the dimension is levels ** (n_sites * components).
        trainable: of "quartic" (n_sites,) and "length" (n_edges,), what joins the parameters.
        fixed: values (scalars or arrays) of what is there and not trained.
        center: positions about which the basis oscillators sit, a scalar or shape (n_sites,), or (n_sites, components).
        width: their zero-point widths sqrt(hbar / (2 m omega)), same shapes; None takes sqrt(hbar / 2), m = omega = 1.

    Raises:
        ValueError: hbar = 0, bad shapes, l beside central springs. MemoryError: the matrices do not fit.

    Example:
        >>> import qeqprop as qp
        >>> one = qp.HarmonicNetwork(1, [], trainable=("kappa",))
        >>> fock = qp.quantum.FockSpace(one, levels=40, trainable=("quartic",), width=0.5)
        >>> ground = qp.equilibrate(fock, {"kappa": [0.0], "quartic": [1.0]})  # p^2/2 + r^4
        >>> print(f"{float(ground.energy):.9f} {ground.stats['edge_population'] < 1e-15}")
        0.667986259 True
        >>> out = qp.ep_gradient(fock, {"kappa": [0.0], "quartic": [1.0]}, qp.ObservableCost(qp.R(0) ** 2))
        >>> print(out.grad["quartic"].round(6))  # -<r^2>/3, by scaling
        [-0.095779]
    """

    network: HarmonicNetwork
    basis: FockBasis = eqx.field(static=True)
    trainable: tuple[str, ...] = eqx.field(static=True)
    fixed: dict[str, np.ndarray]
    terms: OperatorSystem
    nudges: tuple[tuple[WeightedObservables, complex], ...]

    def __init__(
        self,
        network: HarmonicNetwork,
        levels: int,
        *,
        trainable: Sequence[str] = (),
        fixed: Mapping[str, ArrayLike] | None = None,
        center: ArrayLike = 0.0,
        width: ArrayLike | None = None,
    ):
        _check_network(network)
        self.network = network
        self.trainable = (trainable,) if isinstance(trainable, str) else tuple(trainable)
        self.fixed = self._check_terms(fixed or {})
        widths = _per_coordinate(network, np.sqrt(network.hbar / 2) if width is None else width, "width")
        if min(widths) <= 0:
            raise ValueError(f"Argument `width` must be positive, but has {min(widths)}.")
        centers = _per_coordinate(network, center, "center")
        levels = check_count(levels, "levels", 3)
        self.basis = FockBasis(network.n_sites, network.components, levels, network.hbar, centers, widths)
        n_terms = 4 * network.n_coordinates + 2 * len(network.edges) * network.components
        check_memory(
            bytes_needed(self.basis, n_terms, len(network.edges) if self.central else 0),
            f"A Fock space of dimension {self.basis.dim}",
            "Use fewer levels, nodes or components.",
        )
        self.terms = self._terms()
        self.nudges = ()

    @property
    def central(self) -> bool:
        """Whether the springs know distances only."""
        return "length" in self.trainable or "length" in self.fixed

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.network.param_shapes | {name: self._shape(name) for name in self.trainable}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.network.input_shape

    @property
    def batch_size(self) -> int | None:
        return self.network.batch_size

    def with_inputs(self, inputs: ArrayLike) -> "FockSpace":
        """The system with forces on its input sites; a leading axis is the batch axis."""
        return replaced(self, network=self.network.with_inputs(inputs))

    def nudged(self, term: WeightedObservables, strength: complex) -> "FockSpace":
        """The system with energy E + strength * term: polynomials in R(i) and P(i), or matrices of this space."""
        check_observables(term, "A Fock space")
        self.terms.nudged(self.matrix_term(term), strength)  # refuses what does not fit
        return replaced(self, nudges=(*self.nudges, (term, strength)))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """The network's, rest lengths around 1 and quartic strengths around 0.1 (log-normal, width 0.2)."""
        rng = np.random.default_rng(rng)
        scale = {"quartic": 0.1, "length": 1.0}
        return self.network.init_params(rng) | {
            name: scale[name] * np.exp(0.2 * rng.normal(size=self._shape(name))) for name in self.trainable
        }

    def default_solver(self) -> "FockSolver":
        from .fock_solver import FockSolver

        return FockSolver()

    def operator(self, observable: Quadratic) -> MatrixOperator:
        """A polynomial in `qp.R(i)` and `qp.P(i)` as a matrix of this space."""
        return as_matrix(self.basis, observable)

    def matrix_term(self, term: WeightedObservables) -> WeightedObservables:
        """A nudging term with its observables as matrices."""
        return WeightedObservables(tuple(as_matrix(self.basis, o) for o in term.observables), term.weights)

    def operator_system(self) -> OperatorSystem:
        """H as an `OperatorSystem`, linear in the `coefficients`; nudges included."""
        system = self.terms
        for term, strength in self.nudges:
            system = system.nudged(self.matrix_term(term), strength)
        return system

    def coefficients(self, params: Params) -> Params:
        """What multiplies the terms of `operator_system` at these parameters.

        k (D - L)^2 / 2 = k D^2/2 - k L D + k L^2/2, and 1/m is the coefficient of p^2/2.

        Raises:
            ValueError: a mass that is not positive.
        """
        network, rest = self.network, self._rest(params)
        k, kappa, m = (network.value(name, params) for name in ("k", "kappa", "m"))
        tension = k[:, None] * rest
        found = {
            "stretch": k,
            "tension": tension.ravel(),
            "site": kappa,
            "force": network.applied_force(params).ravel(),
            "kinetic": 1 / m,
            "quartic": self._value("quartic", params) if self._has("quartic") else np.zeros(0),
            "one": np.array([0.5 * np.sum(tension * rest)]),
        }
        return found

    def energy(self, params: Params, state: Any) -> Estimate:
        """<H>, nudges included."""
        return self.operator_system().energy(self.coefficients(params), state)

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """<dH/dtheta> at fixed state."""
        return Estimate.exact(self.chain(params, self.terms.param_grad({}, state).mean))

    def chain(self, params: Params, forces: Mapping[str, np.ndarray]) -> Params:
        """Derivatives by the `coefficients` -> derivatives by the parameters."""
        network, rest = self.network, self._rest(params)
        k, m = (network.value(name, params) for name in ("k", "m"))
        tension, one = forces["tension"].reshape(rest.shape), forces["one"][0]
        by_rest = k[:, None] * (tension + one * rest)
        found = {
            "k": forces["stretch"] + np.sum(rest * (tension + 0.5 * one * rest), axis=1),
            "l": by_rest,
            "length": by_rest,
            "kappa": forces["site"],
            "f": forces["force"],
            "m": -forces["kinetic"] / m**2,
            "quartic": forces["quartic"],
        }
        return {name: found[name].reshape(shape) for name, shape in self.param_shapes.items()}

    def _terms(self) -> OperatorSystem:
        """The operators that the coefficients multiply; H is linear in these, not in the parameters."""
        network, basis = self.network, self.basis
        nodes, axes = range(network.n_sites), range(network.components)

        def squares(variable: Any) -> list[MatrixOperator]:
            return [operator(basis, 0.5 * sum(variable(i, a) ** 2 for a in axes)) for i in nodes]

        stretches = [[R(i, a) - R(j, a) for a in axes] for i, j in network.edges]
        if self.central:
            tension = [distance(basis, i, j) for i, j in network.edges]
        else:
            tension = [operator(basis, stretch) for vector in stretches for stretch in vector]
        return OperatorSystem(
            {
                "stretch": [operator(basis, 0.5 * sum(s**2 for s in vector)) for vector in stretches],
                "tension": [-term.matrix for term in tension],
                "site": squares(R),
                "force": [operator(basis, -R(i, a)) for i in nodes for a in axes],
                "kinetic": squares(P),
                "quartic": [quartic(basis, i) for i in nodes] if self._has("quartic") else [],
                "one": [sp.eye_array(basis.dim)],
            }
        )

    def _rest(self, params: Params) -> np.ndarray:
        """Rest offsets (n_edges, components), or rest lengths (n_edges, 1)."""
        return self._value("length", params)[:, None] if self.central else self.network.value("l", params)

    def _has(self, name: str) -> bool:
        return name in self.trainable or name in self.fixed

    def _value(self, name: str, params: Params) -> np.ndarray:
        return params[name] if name in params else self.fixed[name]

    def _shape(self, name: str) -> tuple[int, ...]:
        return (self.network.n_sites if name == "quartic" else len(self.network.edges),)

    def _check_terms(self, fixed: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        """The values that are not trained."""
        names = (*self.trainable, *fixed)
        if len(set(names)) < len(names) or any(name not in ANHARMONIC for name in names):
            raise ValueError(
                f"Arguments `trainable` and `fixed` must have distinct names among {list(ANHARMONIC)}, but have "
                f"{list(names)}. The others are parameters of the network."
            )
        if "length" in names and ("l" in self.network.trainable or np.any(self.network.fixed["l"])):
            raise ValueError(
                "Central springs have rest lengths (`length`), but the network has offsets l as well: leave l out of its "
                "`trainable` and `fixed`."
            )
        return {
            name: real_array(
                np.full(self._shape(name), value) if np.ndim(value) == 0 else value, name, self._shape(name)
            )
            for name, value in fixed.items()
        }

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.param_shapes.items())
        springs = ", central springs" if self.central else ""
        nudge = ", nudged" if self.nudges else ""
        return f"FockSpace({self.basis!r}, dim={self.basis.dim}, parameters {shapes}{springs}{nudge})"


def _check_network(network: Any) -> None:
    if not isinstance(network, HarmonicNetwork):
        raise TypeError(f"Argument `network` must be a HarmonicNetwork, but is {type(network).__name__}.")
    if not network.hbar:
        raise ValueError("Argument `network` must have hbar > 0: at hbar = 0 there are no levels.")
    if network.nudges:
        raise ValueError("Argument `network` must not be nudged: nudge the FockSpace.")


def _per_coordinate(network: HarmonicNetwork, value: ArrayLike, name: str) -> tuple[float, ...]:
    """One number a coordinate, from a scalar, one a node, or one a node and component."""
    shape, array = (network.n_sites, network.components), real_array(value, name)
    if array.shape == shape[:1]:
        array = array[:, None]
    elif array.shape not in ((), shape):
        raise ValueError(
            f"Argument `{name}` must be a scalar or have shape {shape[:1]} or {shape}, but has {array.shape}."
        )
    return tuple(float(x) for x in np.broadcast_to(array, shape).ravel())
