"""Networks of masses and springs: quantum at hbar > 0, classical elastic networks at hbar = 0."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import Edges, check_count, check_edges, check_nodes
from ..core.nudge import WeightedObservables, check_observables
from ..core.system import AbstractSystem, Params, real_array, replaced
from .gaussian_hamiltonian import Entries, QuadraticHamiltonian, combined, deposited, spring_entries
from .quadratic import Quadratic, halves

if TYPE_CHECKING:
    from .gaussian import GaussianGroundState

ABSENT = {"k": 1.0, "l": 0.0, "kappa": 0.0, "f": 0.0, "m": 1.0}
"""Values of what is neither trained nor given."""


class Moments(NamedTuple):
    """What the forces of a network depend on: means, Cov(r_i, r_j) of `HarmonicNetwork.pairs`, and Var(p_i).

    Of a batch the means have the batch axis first, and the covariances where they differ from sample to sample.
    """

    mean: np.ndarray
    momentum: np.ndarray
    position_covariance: np.ndarray
    momentum_variance: np.ndarray


class HarmonicNetwork(AbstractSystem):
    r"""Masses and springs

    .. math:: H = \sum_i \frac{p_i^2}{2 m_i} + \frac12 \sum_{(ij)} k_{ij} (r_i - r_j - l_{ij})^2
                  + \frac12 \sum_i \kappa_i r_i^2 - \sum_i f_i r_i

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
        self.input_sites = check_nodes(input_sites, "input_sites", self.n_sites)
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
        axes = [self._input_batch(), *(term.weights.shape[:-1] for term, _ in self.nudges)]
        return max((shape[0] for shape in axes if shape), default=None)

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
        check_observables(term, "A harmonic network")
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
        k, rest, kappa, m = (self.value(name, params) for name in ("k", "l", "kappa", "m"))
        i, j = self._ends()
        tension, force = k[:, None] * rest, self.applied_force(params)
        force += deposited(force.shape[-2:], i, tension) - deposited(force.shape[-2:], j, tension)
        springs, on_site, inverse = (np.repeat(value, self.components) for value in (k, kappa, 1 / m))
        every, flat = np.arange(self.n_coordinates), (*force.shape[:-2], self.n_coordinates)
        h = QuadraticHamiltonian(
            stiffness=spring_entries(on_site, springs, self._coordinates(i), self._coordinates(j)),
            inverse_mass=Entries(self.n_coordinates, every, every, inverse),
            force=force.reshape(flat),
            drift=np.zeros(flat),
            constant=np.asarray(0.5 * np.sum(tension * rest)),
        )
        for term, strength in self.nudges:
            h = h.plus(strength, self.term_form(term))
        return h

    def value(self, name: str, params: Params) -> np.ndarray:
        """A parameter, trained or fixed; l and f with their axis of components.

        Raises:
            ValueError: a mass that is not positive.
        """
        value = params[name] if name in params else self.fixed[name]
        if name == "m" and np.any(value <= 0):
            site = int(np.argmin(value))
            raise ValueError(f"Argument `m` must be positive, but is {value[site]} at site {site}.")
        return value.reshape(-1, self.components) if name in ("l", "f") else value

    def applied_force(self, params: Params) -> np.ndarray:
        """f and the inputs, shape (..., n_sites, components)."""
        f = self.value("f", params)
        batch = () if self.batch_size is None else (self.batch_size,)
        force = np.array(np.broadcast_to(f, (*batch, *f.shape)))
        if self.input_sites:
            pull = self.inputs.reshape(*self._input_batch(), len(self.input_sites), self.components)
            force[..., list(self.input_sites), :] += pull
        return force

    def term_form(self, term: WeightedObservables) -> QuadraticHamiltonian:
        """A nudging term as the quadratic Hamiltonian that it adds."""
        parts = [halves(observable, self.n_sites, self.components) for observable in term.observables]
        stiffness, slope = combined([position for _, position, _ in parts], term.weights, self.n_coordinates)
        inverse_mass, drift = combined([momentum for _, _, momentum in parts], term.weights, self.n_coordinates)
        constant = np.asarray(term.weights @ np.array([constant for constant, _, _ in parts]))
        return QuadraticHamiltonian(stiffness, inverse_mass, -slope, drift, constant)

    def sample(self, index: int) -> "HarmonicNetwork":
        """One network of a batch; a single network itself."""
        inputs = self.inputs[index] if self._input_batch() else self.inputs
        nudges = tuple(
            (WeightedObservables(term.observables, term.weights[index] if term.weights.ndim > 1 else term.weights), b)
            for term, b in self.nudges
        )
        return replaced(self, inputs=inputs, nudges=nudges)

    def energy(self, params: Params, state: Any) -> Estimate:
        """<H>, nudges included."""
        h = self.hamiltonian(params)

        def value(state: Any) -> np.ndarray:
            r, p, k, a = state.mean, state.momentum, h.stiffness, h.inverse_mass
            pull, drag = 0.5 * k.apply(r) - h.force, 0.5 * a.apply(p) + h.drift
            classical = np.sum(r * pull, axis=-1) + np.sum(p * drag, axis=-1) + h.constant
            potential = np.sum(k.values * state.position_covariances(k.rows, k.cols), axis=-1)
            kinetic = np.sum(a.values * state.momentum_covariances(a.rows, a.cols), axis=-1)
            return np.asarray(classical + 0.5 * (potential + kinetic))

        return _estimate(value, state)

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """<dH/dtheta> at fixed state:

        d/dk = <(r_i - r_j - l)^2>/2, d/dl = -k <r_i - r_j - l>, d/dkappa = <r^2>/2, d/df = -<r>, d/dm = -<p^2>/(2 m^2).
        """
        every, rest = np.arange(self.n_coordinates), self.value("l", params)

        def forces(state: Any) -> Params:
            covariance = state.position_covariances(*self.pairs())
            means = self._means(state.mean, state.momentum)
            squares = self._spread(covariance, state.momentum_covariances(every, every))
            return self._forces(params, means, means, squares, 0.5, rest)

        return _estimate(forces, state)

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
        k, rest, m = (self.value(name, params) for name in ("k", "l", "m"))
        stretch, stretch2 = (x[..., i, :] - x[..., j, :] - offset for x, offset in ((r, rest), (r2, changed_rest)))
        forces = {
            "k": factor * np.sum(stretch * stretch2, axis=-1) + 0.5 * edge,
            "l": -k[:, None] * stretch2,
            "kappa": factor * np.sum(r * r2, axis=-1) + 0.5 * site,
            "f": -r2,
            "m": -(factor * np.sum(p * p2, axis=-1) + 0.5 * kinetic) / m**2,
        }
        batch = r2.shape[:-2]
        return {name: forces[name].reshape(*batch, *self._shape(name)) for name in self.trainable}

    def _means(self, mean: np.ndarray, momentum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._by_site(mean), self._by_site(momentum)

    def _by_site(self, values: np.ndarray) -> np.ndarray:
        """(..., coordinates) -> (..., sites, components); the same of springs."""
        return values.reshape(*values.shape[:-1], -1, self.components)

    def _spread(self, covariance: np.ndarray, kinetic: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Var(r_i - r_j) of the springs, Var(r_i) and Var(p_i), summed over the components."""
        i, j = self._ends()
        parts = (covariance[..., : self.n_coordinates], covariance[..., self.n_coordinates :], kinetic)
        site, shared, moving = (self._by_site(part).sum(axis=-1) for part in parts)
        return site[..., i] + site[..., j] - 2 * shared, site, moving

    def _shape(self, name: str) -> tuple[int, ...]:
        count = len(self.edges) if name in ("k", "l") else self.n_sites
        return (count, self.components) if name in ("l", "f") and self.components > 1 else (count,)

    def _input_batch(self) -> tuple[int, ...]:
        """The batch axis of the inputs, or nothing."""
        return self.inputs.shape[: self.inputs.ndim - len(self.input_shape or (0,))]

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


def _estimate(function: Callable[[Any], Any], state: Any) -> Estimate:
    """A function of the moments of a state; of a measured state from its sample, with the error of its replicas."""
    if hasattr(state, "replicas"):  # a sample: `MeasuredOscillators`
        return Estimate.jackknife(function(state.moments), function(state.replicas))
    return Estimate.exact(function(state))


def _check_names(trainable: Sequence[str]) -> tuple[str, ...]:
    names = (trainable,) if isinstance(trainable, str) else tuple(trainable)
    if not names or len(set(names)) < len(names) or any(name not in ABSENT for name in names):
        raise ValueError(f"Argument `trainable` must be distinct names among {list(ABSENT)}, but is {trainable!r}.")
    return names
