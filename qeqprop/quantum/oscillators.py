"""Networks of masses and springs: quantum at hbar > 0, classical elastic networks at hbar = 0."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import Edges, check_count, check_edges
from ..core.nudge import WeightedObservables
from ..core.system import AbstractSystem, Params, real_array, replaced
from .quadratic import Half, Quadratic, halves

if TYPE_CHECKING:
    from .gaussian import GaussianGroundState

ABSENT = {"k": 1.0, "l": 0.0, "kappa": 0.0, "f": 0.0, "m": 1.0}
"""Values of what is neither trained nor given."""


class QuadraticHamiltonian(NamedTuple):
    """H = p.A.p/2 + r.K.r/2 - force.r + drift.p + constant over coordinates site * components + component.

    K (`stiffness`) and A (`inverse_mass`) are sparse and symmetric; every spring has its entry in K, also where k = 0.
    """

    stiffness: sp.csc_array
    inverse_mass: sp.csc_array
    force: np.ndarray
    drift: np.ndarray
    constant: complex


class Moments(NamedTuple):
    """What the forces of a network depend on: means, Cov(r_i, r_j) of `HarmonicNetwork.pairs`, and Var(p_i)."""

    mean: np.ndarray
    momentum: np.ndarray
    position_covariance: np.ndarray
    momentum_variance: np.ndarray


class HarmonicNetwork(AbstractSystem):
    r"""Masses and springs

    .. math:: H = \\sum_i \\frac{p_i^2}{2 m_i} + \\frac12 \\sum_{(ij)} k_{ij} (r_i - r_j - l_{ij})^2
                  + \\frac12 \\sum_i \\kappa_i r_i^2 - \\sum_i f_i r_i

    with each edge once. The ground state is a Gaussian whose means are classical at every hbar; the zero-point motion
    enters through the covariances. hbar = 0 is the classical elastic network. In d components all of them share the
    scalars k, kappa and m, while l and f are vectors.

    Args:
        n_sites: number of nodes.
        edges: springs: an edge list, a networkx graph or a NetKet graph. The sign of l follows the order (i, j).
        components: d, the components of every node.
        hbar: Planck's constant, 0 or above.
        trainable: the names of the parameters, among k, l, kappa, f and m.
        fixed: values (scalars or arrays) of the others; without one k = m = 1 and l = kappa = f = 0.
        input_sites: nodes on which the inputs act as extra forces, f_i -> f_i + x.

    Parameters: the trainable ones of `{"k": (n_edges,), "l": (n_edges,), "kappa": (n_sites,), "f": (n_sites,),
    "m": (n_sites,)}`; with d > 1 components l and f have a second axis of length d.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> chain = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], trainable=("k", "kappa"), fixed={"f": [0.3, 0.0, 0.0]})
        >>> params = {"k": np.ones(2), "kappa": 0.5 * np.ones(3)}
        >>> out = qp.ep_gradient(chain, params, qp.ObservableCost((qp.R(2) - 0.5) ** 2))
        >>> print(out.grad["k"].round(6))
        [-0.02931  -0.099804]
    """

    n_sites: int = eqx.field(static=True)
    edges: Edges = eqx.field(static=True)
    components: int = eqx.field(static=True)
    hbar: float = eqx.field(static=True)
    trainable: tuple[str, ...] = eqx.field(static=True)
    input_sites: tuple[int, ...] = eqx.field(static=True)
    fixed: dict[str, np.ndarray]
    inputs: np.ndarray
    nudges: tuple[tuple[WeightedObservables, complex], ...]

    def __init__(
        self,
        n_sites: int,
        edges: Any,
        *,
        components: int = 1,
        hbar: float = 1.0,
        trainable: Sequence[str] = ("k", "l", "kappa", "f"),
        fixed: Mapping[str, ArrayLike] | None = None,
        input_sites: Sequence[int] = (),
    ):
        self.n_sites = check_count(n_sites, "n_sites")
        self.edges = check_edges(edges, self.n_sites)
        self.components = check_count(components, "components")
        self.hbar = float(real_array(hbar, "hbar", ()))
        if self.hbar < 0:
            raise ValueError(f"Argument `hbar` must be 0 or above, but is {hbar}.")
        self.trainable = _check_names(trainable)
        self.fixed = self._check_fixed(fixed or {})
        self.input_sites = _check_sites(input_sites, self.n_sites)
        self.inputs = np.zeros(self.input_shape or 0)
        self.nudges = ()

    @property
    def n_coordinates(self) -> int:
        """Positions in all: n_sites * components."""
        return self.n_sites * self.components

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: self._shape(name) for name in self.trainable}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        vector = (self.components,) if self.components > 1 else ()
        return (len(self.input_sites), *vector) if self.input_sites else None

    @property
    def batch_size(self) -> int | None:
        return self.inputs.shape[0] if self.input_shape and self.inputs.ndim > len(self.input_shape) else None

    def with_inputs(self, inputs: ArrayLike) -> "HarmonicNetwork":
        """The network with forces on its input sites; a leading axis is the batch axis."""
        if (shape := self.input_shape) is None:
            raise ValueError("Argument `inputs` must be None: this network has no input sites.")
        array = real_array(inputs, "inputs")
        if array.ndim - len(shape) not in (0, 1) or array.shape[-len(shape) :] != shape or not array.size:
            batched = ", ".join(map(str, ("batch", *shape)))
            raise ValueError(f"Argument `inputs` must have shape {shape} or ({batched}), but has shape {array.shape}.")
        return replaced(self, inputs=array)

    def nudged(self, term: WeightedObservables, strength: complex) -> "HarmonicNetwork":
        """The network with energy E + strength * term: another quadratic Hamiltonian."""
        for observable in term.observables:
            if not isinstance(observable, Quadratic):
                raise TypeError(
                    "A harmonic network is nudged by polynomials in R(i) and P(i), but not by "
                    f"{type(observable).__name__}."
                )
            halves(observable, self.n_sites, self.components)  # refuses sites and components beyond the last
        return replaced(self, nudges=(*self.nudges, (term, strength)))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Positive k, kappa and m around 1 (log-normal, width 0.2); l and f normal of width 0.5."""
        rng = np.random.default_rng(rng)
        return {
            name: 0.5 * rng.normal(size=shape) if name in ("l", "f") else np.exp(0.2 * rng.normal(size=shape))
            for name, shape in self.param_shapes.items()
        }

    def default_solver(self) -> "GaussianGroundState":
        from .gaussian import GaussianGroundState

        return GaussianGroundState()

    def hamiltonian(self, params: Params) -> QuadraticHamiltonian:
        """The matrices of H(theta), inputs and nudges included.

        Raises:
            ValueError: a mass that is not positive.
        """
        k, rest, kappa, f, m = (self._value(name, params) for name in ("k", "l", "kappa", "f", "m"))
        if np.any(m <= 0):
            site = int(np.argmin(m))
            raise ValueError(f"Argument `m` must be positive, but is {m[site]} at site {site}.")
        i, j = self._ends()
        tension = k[:, None] * rest
        force = np.array(f)
        np.add.at(force, i, tension)
        np.subtract.at(force, j, tension)
        if self.input_sites:
            force[list(self.input_sites)] += self.inputs.reshape(len(self.input_sites), self.components)
        a, b = self._coordinates(i), self._coordinates(j)
        springs, every = np.repeat(k, self.components), np.arange(self.n_coordinates)
        stiffness = _symmetric(
            self.n_coordinates,
            np.concatenate([every, a, b, a, b]),
            np.concatenate([every, a, b, b, a]),
            np.concatenate([np.repeat(kappa, self.components), springs, springs, -springs, -springs]),
        )
        masses = _symmetric(self.n_coordinates, every, every, np.repeat(1 / m, self.components))
        constant = 0.5 * float(np.sum(tension * rest))
        h = QuadraticHamiltonian(stiffness, masses, force.ravel(), np.zeros(self.n_coordinates), constant)
        for term, strength in self.nudges:
            bent = self.term_form(term)
            h = QuadraticHamiltonian(
                _added(h.stiffness, strength, bent.stiffness),
                _added(h.inverse_mass, strength, bent.inverse_mass),
                h.force + strength * bent.force,
                h.drift + strength * bent.drift,
                h.constant + strength * bent.constant,
            )
        return h

    def term_form(self, term: WeightedObservables) -> QuadraticHamiltonian:
        """A nudging term as the quadratic Hamiltonian that it adds."""
        parts = [halves(observable, self.n_sites, self.components) for observable in term.observables]
        stiffness, slope = _combined([position for _, position, _ in parts], term.weights, self.n_coordinates)
        inverse_mass, drift = _combined([momentum for _, _, momentum in parts], term.weights, self.n_coordinates)
        constant = float(term.weights @ np.array([constant for constant, _, _ in parts]))
        return QuadraticHamiltonian(stiffness, inverse_mass, -slope, drift, constant)

    def energy(self, params: Params, state: Any) -> Estimate:
        """<H>, nudges included."""
        h = self.hamiltonian(params)
        r, p = state.mean, state.momentum
        k, a = sp.coo_array(h.stiffness), sp.coo_array(h.inverse_mass)
        classical = 0.5 * (r @ (h.stiffness @ r) + p @ (h.inverse_mass @ p)) - h.force @ r + h.drift @ p + h.constant
        potential = k.data @ state.position_covariances(*k.coords)
        kinetic = a.data @ state.momentum_covariances(*a.coords)
        return Estimate.exact(np.asarray(classical + 0.5 * (potential + kinetic)))

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """<dH/dtheta> at fixed state:

        d/dk = <(r_i - r_j - l)^2>/2, d/dl = -k <r_i - r_j - l>, d/dkappa = <r^2>/2, d/df = -<r>, d/dm = -<p^2>/(2 m^2).
        """
        every = np.arange(self.n_coordinates)
        covariance = state.position_covariances(*self.pairs())
        means = self._means(state.mean, state.momentum)
        squares = self._spread(covariance, state.momentum_covariances(every, every))
        return Estimate.exact(self._forces(params, means, means, squares, 0.5, self._value("l", params)))

    def force_change(self, params: Params, state: Any, change: Moments) -> Params:
        """The derivative of the forces along a change of the moments of `state`."""
        means = self._means(state.mean, state.momentum)
        changed = self._means(change.mean, change.momentum)
        squares = self._spread(change.position_covariance, change.momentum_variance)
        return self._forces(params, means, changed, squares, 1.0, 0.0)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates (i, j) whose covariances the forces depend on: all (i, i), then the springs."""
        i, j = self._ends()
        every = np.arange(self.n_coordinates)
        return np.concatenate([every, self._coordinates(i)]), np.concatenate([every, self._coordinates(j)])

    def _forces(
        self, params: Params, means: Any, changed: Any, squares: Any, factor: float, changed_rest: Any
    ) -> Params:
        """<dH/dtheta> (`changed` = `means`, factor 1/2: the squares of the means) or its derivative (factor 1)."""
        (r, p), (r2, p2), (edge, site, kinetic) = means, changed, squares
        i, j = self._ends()
        k, rest, m = (self._value(name, params) for name in ("k", "l", "m"))
        stretch, stretch2 = r[i] - r[j] - rest, r2[i] - r2[j] - changed_rest
        forces = {
            "k": factor * np.sum(stretch * stretch2, axis=1) + 0.5 * edge,
            "l": -k[:, None] * stretch2,
            "kappa": factor * np.sum(r * r2, axis=1) + 0.5 * site,
            "f": -r2,
            "m": -(factor * np.sum(p * p2, axis=1) + 0.5 * kinetic) / m**2,
        }
        return {name: forces[name].reshape(self._shape(name)) for name in self.trainable}

    def _means(self, mean: np.ndarray, momentum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return mean.reshape(-1, self.components), momentum.reshape(-1, self.components)

    def _spread(self, covariance: np.ndarray, kinetic: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Var(r_i - r_j) of the springs, Var(r_i) and Var(p_i), summed over the components."""
        d, split = self.components, self.n_coordinates
        i, j = self._ends()
        site, shared = (part.reshape(-1, d).sum(axis=1) for part in (covariance[:split], covariance[split:]))
        return site[i] + site[j] - 2 * shared, site, kinetic.reshape(-1, d).sum(axis=1)

    def _value(self, name: str, params: Params) -> np.ndarray:
        """A parameter, trained or fixed; l and f with their axis of components."""
        value = params[name] if name in params else self.fixed[name]
        return value.reshape(-1, self.components) if name in ("l", "f") else value

    def _shape(self, name: str) -> tuple[int, ...]:
        count = len(self.edges) if name in ("k", "l") else self.n_sites
        return (count, self.components) if name in ("l", "f") and self.components > 1 else (count,)

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        ends = np.array(self.edges, dtype=np.int64).reshape(-1, 2)
        return ends[:, 0], ends[:, 1]

    def _coordinates(self, sites: np.ndarray) -> np.ndarray:
        return (sites[:, None] * self.components + np.arange(self.components)).ravel()

    def _check_fixed(self, fixed: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        if unknown := [name for name in fixed if name not in ABSENT]:
            raise ValueError(f"Argument `fixed` must have names among {list(ABSENT)}, but has {unknown}.")
        if both := [name for name in fixed if name in self.trainable]:
            raise ValueError(f"Argument `fixed` must not have the trainable names {both}.")
        values = {}
        for name in (name for name in ABSENT if name not in self.trainable):
            value, shape = np.asarray(fixed.get(name, ABSENT[name])), self._shape(name)
            values[name] = real_array(np.full(shape, value) if value.ndim == 0 else value, f"fixed[{name!r}]", shape)
        return values

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.param_shapes.items())
        dimension = f" in {self.components} components" if self.components > 1 else ""
        extra = f", inputs {self.input_shape}" if self.input_shape else ""
        nudge = ", nudged" if self.nudges else ""
        return (
            f"HarmonicNetwork({self.n_sites} nodes{dimension}, hbar={self.hbar:g}, parameters {shapes}{extra}{nudge})"
        )


def _symmetric(n: int, rows: np.ndarray, cols: np.ndarray, values: np.ndarray) -> sp.csc_array:
    """A sparse array from entries that are summed; explicit zeros stay in the pattern."""
    return sp.csc_array(sp.coo_array((values, (rows, cols)), shape=(n, n)))


def _added(matrix: sp.csc_array, strength: complex, other: sp.csc_array) -> sp.csc_array:
    """matrix + strength * other, on the union of the patterns (SciPy's sum drops zeros)."""
    one, two = sp.coo_array(matrix), sp.coo_array(other)
    rows, cols = (np.concatenate(pair) for pair in zip(one.coords, two.coords, strict=True))
    return _symmetric(matrix.shape[0], rows, cols, np.concatenate([one.data, strength * two.data]))


def _combined(parts: Sequence[Half], weights: np.ndarray, n: int) -> tuple[sp.csc_array, np.ndarray]:
    """Hessian and slope at 0 of sum_k weights[k] * parts[k]."""
    slope = np.zeros(n)
    for part, weight in zip(parts, weights, strict=True):
        np.add.at(slope, part.at, weight * part.values)
    left, right = (np.concatenate([getattr(part, side) for part in parts]) for side in ("left", "right"))
    values = np.concatenate([weight * part.products for part, weight in zip(parts, weights, strict=True)])
    rows, cols = np.concatenate([left, right]), np.concatenate([right, left])
    return _symmetric(n, rows, cols, np.concatenate([values, values])), slope


def _check_names(trainable: Sequence[str]) -> tuple[str, ...]:
    names = (trainable,) if isinstance(trainable, str) else tuple(trainable)
    if not names or len(set(names)) < len(names) or any(name not in ABSENT for name in names):
        raise ValueError(f"Argument `trainable` must be distinct names among {list(ABSENT)}, but is {trainable!r}.")
    return names


def _check_sites(sites: Sequence[int], n_sites: int) -> tuple[int, ...]:
    checked = tuple(check_count(site, "input_sites", 0) for site in sites)
    if any(site >= n_sites for site in checked) or len(set(checked)) != len(checked):
        raise ValueError(f"Argument `input_sites` must be distinct sites from 0 to {n_sites - 1}, but is {checked}.")
    return checked
