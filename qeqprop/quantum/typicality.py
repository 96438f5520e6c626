"""Thermal states of spin networks too large to be diagonalised, by typicality; forces and responses with errors."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.memory import check_memory
from ..core.nudge import WeightedObservables
from ..core.scheme import LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params, replaced
from .imaginary_time import STACK_BITS, ImaginaryTime
from .sampled_state import SampledThermalState
from .spins import AbstractSpinSystem, SpinHamiltonian
from .split_trace import Probes, Trace, jackknifed, orthonormal_rows
from .states import transition_moments
from .strings import complex_form, real_form, string_table
from .thermal import check_temperature

FILTER_TIME = 2.0
"""Imaginary time, in units of 1/T, after which random vectors span the levels that matter: measured, the error that
is left is that of exact eigenvectors plus 20 to 30 %, and a longer time gains less than it costs."""

PILOT = 8
"""Random vectors whose overlaps tell how many levels are occupied."""

PILOT_ACCURACY = 1e-4
"""The pilot's relative error."""

FEW_LEVELS = 4
"""Levels are traced exactly where fewer than this many times the number of random vectors are occupied: measured, as many
random vectors more gain less from there down, and more from there up."""

NOISE_LIMIT = 0.25
"""Relative error of the sampled partition function above which ratios of traces have no meaning any more."""

WORK_VECTORS = 6
"""Vectors at work besides those that are kept; a response adds `SLOPE_VECTORS` for each perturbation."""
SLOPE_VECTORS = 4

SHOWN_BITS = 16
"""From this size on a bar shows the progress."""


class ThermalPureStates(AbstractSolver):
    r"""Thermal equilibrium at a temperature, sampled: traces over a few random vectors instead of all states.

    .. math:: Z = \mathrm{tr}\, e^{-H/T} \approx \frac1R \sum_r \langle r| e^{-H/T} |r\rangle , \qquad
              \langle A \rangle = \frac{\sum_r \langle\phi_r| A |\phi_r\rangle}{\sum_r \langle\phi_r|\phi_r\rangle} ,
              \qquad |\phi_r\rangle = e^{-H/2T} |r\rangle .

    The relative error is 1/sqrt(R D), where D = Z(T)^2 / Z(T/2) is the number of levels that are occupied: small at high
    temperature, useless at low T. So, where D is small, the levels that carry the weight are taken out: a basis of them
    (random vectors, filtered by exp(-2H/T)) is traced *exactly*, and only its complement is sampled. At T -> 0 nothing is
    left to sample, and the gradient goes over into that of the ground state.

    The exponentials are Chebyshev polynomials of matrix-free products; nothing but vectors is stored. Nudged phases use
    the random vectors and the basis of the free one (any `init` gives its own), so that their noise cancels in the
    difference. The limit beta -> 0 (`LinearResponse`, the default) differentiates the polynomials themselves,

    .. math:: \frac{d\langle A \rangle}{d\beta} = \frac{2 \sum_r \langle\phi_r| A - \langle A\rangle |\dot\phi_r\rangle}
              {\sum_r \langle\phi_r|\phi_r\rangle} , \qquad
              |\dot\phi\rangle = - \int_0^{1/2T} d\tau\, e^{-(1/2T - \tau) H} C e^{-\tau H} |r\rangle ,

    whose mean is the Kubo-Mori covariance by the cyclic invariance of the trace. Standard errors are those of a jackknife
    over the random vectors, which also removes the bias of order 1/R. In `LinearResponse` they include the noise of the
    error signal dL/d<O_k> of an `ExpectationCost` (at the cost of one derivative for every output); a stencil nudges with
    the signal it found, and its errors are those at this signal.

    Args:
        temperature: T > 0, with k_B = 1.
        samples: R, the number of random vectors, at least 2; below about 16 the error bars are themselves uncertain.
        deflated: number of vectors traced exactly (2^n and more: all states, which leaves no noise). None takes R where
            fewer than 4 R levels are occupied, else 0.
        tolerance: bound on the relative error of the exponentials.
        memory: bytes that may be used; None takes 90 % of what is free.
        threads: None uses all cores from 21 spins on.

    Raises (from `solve`):
        MemoryError: the vectors do not fit. ValueError: T is too low against the width of the spectrum.

    References: P. de Vries and H. De Raedt, Phys. Rev. B 47, 7929 (1993); S. Sugiura and A. Shimizu, Phys. Rev. Lett.
    111, 010401 (2013); R. Meyer, C. Musco, C. Musco and D. Woodruff, Hutch++, SOSA (2021).

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=6, edges=[(i, i + 1) for i in range(5)])
        >>> params = {"J": [1.0] * 5, "h": [0.3] + [0.0] * 5, "g": [1.0] * 6}
        >>> problem = (net, params, qp.ObservableCost(qp.Z(5)))
        >>> out = qp.ep_gradient(*problem, solver=qp.ThermalPureStates(1.0), key=0)
        >>> exact = qp.linear_response(*problem, solver=qp.GibbsState(1.0))
        >>> error = abs(out.grad["g"] - exact.grad["g"])
        >>> bool((error < 4 * out.stderr["g"]).all()), bool(error.max() < 1e-3)
        (True, True)
    """

    temperature: float = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    deflated: int | None = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    memory: int | None = eqx.field(static=True)
    threads: int | None = eqx.field(static=True)

    name: ClassVar[str] = "ThermalPureStates"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __init__(
        self,
        temperature: float,
        *,
        samples: int = 32,
        deflated: int | None = None,
        tolerance: float = 1e-9,
        memory: int | None = None,
        threads: int | None = None,
    ):
        if not 1e-12 <= tolerance <= 1e-2:
            raise ValueError(f"Argument `tolerance` must lie between 1e-12 and 1e-2, but is {tolerance}.")
        self.temperature = check_temperature(temperature)
        self.samples = check_count(samples, "samples", 2)
        self.deflated = None if deflated is None else check_count(deflated, "deflated", 0)
        self.tolerance = float(tolerance)
        self.memory = None if memory is None else check_count(memory, "memory")
        self.threads = None if threads is None else check_count(threads, "threads")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The thermal state; with an `init` by its basis and its random vectors, else with those of `key`."""
        if not isinstance(system, AbstractSpinSystem):
            raise TypeError(
                f"ThermalPureStates solves spin networks, not {type(system).__name__}. Use GibbsState for small operator "
                "systems and for oscillators."
            )
        h = system.hamiltonian(params)
        exact = min(self.samples if self.deflated is None else self.deflated, 1 << h.n_sites)
        self._check_memory(h, 2 * exact + self.samples, 1)
        probes, stats = self._choose_probes(h, key) if init is None else (_probes_of(init, h.n_sites), {"matvecs": 0})
        kets, exponential = self._evolved(probes, h, 0.5, self.tolerance, "thermal states")
        norms = np.array([np.vdot(ket, ket).real for ket in kets])
        state = SampledThermalState(
            h.n_sites, self.temperature, exponential.floor, kets, norms, np.zeros_like(norms), probes.basis, probes.seed
        )
        energies = state.elements(system.operators()) @ system.strengths(params)
        state = replaced(state, energies=energies)
        noise = jackknifed(np.log, state.trace(norms)).stderr
        return Equilibrium(
            state=state,
            energy=state.free_energy(),
            residual=np.asarray(exponential.error),
            gap=None,
            status=_status(norms, float(noise)),
            stats={
                "method": "typicality, Chebyshev",
                **stats,
                "matvecs": stats["matvecs"] + exponential.products,
                "random_vectors": probes.samples,
                "exact_vectors": len(probes.basis),
                "sampled_fraction": state.sampled_fraction(),
                "partition_error": float(noise),
                "terms": exponential.terms,
                "mean_energy": state.mean_energy(),
                "entropy": state.entropy(),
            },
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """d<A>/dbeta of all forces A from the derivative of the evolved vectors; `tolerance` is the solver's own."""
        assert isinstance(system, AbstractSpinSystem)  # `solve` has refused the others
        state: SampledThermalState = equilibrium.state
        forces, outputs = system.force_table(), string_table(term.observables, system.n_sites)
        h = system.hamiltonian(params)
        least = h.n_sites + np.iscomplexobj(state.kets)
        h = h._replace(n_bits=max(h.n_bits, forces.n_bits, outputs.n_bits, least))
        probes, separate = state.probes(), term.replicas is not None
        costs = outputs.coefficients.toarray() if separate else (outputs.coefficients.T @ term.weights)[None]
        self._check_memory(h, 0, len(costs))
        exponential = ImaginaryTime(h, 0.5 / self.temperature, len(probes), self.tolerance, self.threads)
        # C - <C> moves the state as C does, and no difference of large numbers is divided by a small T
        means = state.expect_all(term.observables).mean
        kernels = [
            exponential.perturbation(h._replace(x=outputs.x, z=outputs.z, coefficients=cost), -mean)
            for cost, mean in zip(costs, means if separate else [means @ term.weights], strict=True)
        ]
        slopes = np.empty((len(probes), forces.coefficients.shape[0], len(kernels)))
        overlaps = np.empty((len(probes), 1, len(kernels)))
        for part, stack in _stacks(probes, exponential.rows, h.n_bits, "responses"):
            kets, derivatives = exponential.differentiate(stack, kernels)
            for k, derivative in enumerate(derivatives):
                strings = 2 * transition_moments(h.n_bits, forces.x, forces.z, kets, derivative)
                slopes[part, :, k] = (forces.coefficients @ strings.T).T[: part.stop - part.start]
                overlaps[part, 0, k] = 2 * np.sum(kets * derivative, axis=1)[: part.stop - part.start]
        measured = state.elements(tuple(operator for _, operators in system.terms for operator in operators))
        traces = [state.trace(values) for values in (slopes, overlaps, measured, state.norms[:, None])]
        estimate = jackknifed(_response, _signal(term, probes.samples), *traces)
        finite = np.all(np.isfinite(estimate.mean))
        return Response(
            Estimate.jackknife(system.forces(estimate.mean), system.forces(estimate.replicas)),
            np.asarray(exponential.error),
            Status.OK if finite else Status.NOT_FINITE,
            {"matvecs": exponential.products, "terms": exponential.terms},
        )

    def default_scheme(self, free: Equilibrium, term: Any) -> LinearResponse:
        """The limit itself: the noise of nudges with common random vectors and as many products with H, no truncation."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase, for its random vectors."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Batches go sample by sample."""
        return False

    def __repr__(self) -> str:
        deflated = "" if self.deflated is None else f", deflated={self.deflated}"
        return f"ThermalPureStates(temperature={self.temperature:g}, samples={self.samples}{deflated})"

    def _check_memory(self, h: SpinHamiltonian, kept: int, perturbations: int) -> None:
        work = (WORK_VECTORS + SLOPE_VECTORS * perturbations) << max(h.n_bits, STACK_BITS)
        what = f"Sampling a thermal state of {h.n_sites} spins with {self.samples} random vectors"
        advice = "Use fewer `samples` or `deflated` vectors, or fewer sites."
        check_memory(8 * ((kept << h.n_bits) + work), what, advice, self.memory)

    def _choose_probes(self, h: SpinHamiltonian, key: np.random.SeedSequence | None) -> tuple[Probes, dict[str, Any]]:
        """Random vectors, and the basis traced exactly where few levels are occupied."""
        seed = (np.random.SeedSequence() if key is None else key).generate_state(8).astype(np.int64)
        nothing, products = np.zeros((0, 1 << h.n_sites)), 0
        wanted, stats = self.deflated, {}
        if wanted is None:
            pilot, exponential = self._evolved(Probes(h.n_sites, nothing, PILOT, seed[:4]), h, 0.5, PILOT_ACCURACY)
            occupied, products = _occupied_levels(pilot), exponential.products
            stats["occupied_levels"] = occupied
            wanted = self.samples if occupied < FEW_LEVELS * self.samples else 0
        if not 0 < wanted < 1 << h.n_sites:
            basis = np.eye(1 << h.n_sites) if wanted else nothing
        else:
            sketch = Probes(h.n_sites, nothing, wanted, seed[:4])
            vectors, exponential = self._evolved(sketch, h, FILTER_TIME, self.tolerance, "basis")
            basis, products = orthonormal_rows(vectors), products + exponential.products
        return Probes(h.n_sites, basis, self.samples, seed[4:]), {**stats, "matvecs": products}

    def _evolved(
        self, probes: Probes, h: SpinHamiltonian, time: float, accuracy: float, label: str = "pilot"
    ) -> tuple[np.ndarray, ImaginaryTime]:
        """exp(-time H/T) of all probes, as amplitudes."""
        h = h._replace(n_bits=max(h.n_bits, h.n_sites + np.iscomplexobj(probes.basis)))
        exponential = ImaginaryTime(h, time / self.temperature, len(probes), accuracy, self.threads)
        kind = np.complex128 if h.realified else np.float64
        kets = np.empty((len(probes), 1 << h.n_sites), dtype=kind)
        for part, stack in _stacks(probes, exponential.rows, h.n_bits, label):
            kets[part] = complex_form(exponential.evolve(stack), h.n_sites)[: part.stop - part.start]
        return kets, exponential


def _stacks(probes: Probes, rows: int, n_bits: int, label: str) -> Iterator[tuple[slice, np.ndarray]]:
    """The probes as real vectors, `rows` at a time (zeros fill the last stack), with a bar where the work is long."""
    from tqdm.auto import tqdm

    hide = None if n_bits >= SHOWN_BITS else True
    with tqdm(total=len(probes), desc=label, unit="vector", leave=False, disable=hide) as bar:
        for first in range(0, len(probes), rows):
            part = slice(first, min(first + rows, len(probes)))
            stack = np.zeros((rows, 1 << n_bits))
            stack[: part.stop - first] = real_form(probes.rows(part.start, part.stop), n_bits)
            yield part, stack
            bar.update(part.stop - first)


def _probes_of(init: Equilibrium, n_sites: int) -> Probes:
    if not isinstance(init.state, SampledThermalState) or init.state.n_sites != n_sites:
        raise ValueError(
            f"Argument `init` must be an equilibrium of ThermalPureStates with {n_sites} spins, but holds {init.state}."
        )
    return init.state.probes()


def _occupied_levels(kets: np.ndarray) -> float:
    """Z(T)^2 / Z(T/2): <r|M|r> has the mean tr M, and |<r|M|s>|^2 the mean tr M^2."""
    overlaps = kets.conj() @ kets.T
    traces = np.diagonal(overlaps).real
    squares = np.abs(overlaps[np.triu_indices(len(kets), 1)]) ** 2
    return float(traces.mean() ** 2 / max(squares.mean(), 1e-300))


def _status(norms: np.ndarray, noise: float) -> Status:
    if not np.all(np.isfinite(norms)):
        return Status.NOT_FINITE
    return Status.UNDERSAMPLED if noise > NOISE_LIMIT else Status.OK


def _signal(term: WeightedObservables, samples: int) -> Trace:
    """The weights with the replicas of a sampled error signal about them; none, and their sum, where they are given."""
    if term.replicas is None:
        return Trace(np.ones(1), np.ones((samples, 1)))
    return Trace(term.weights, term.replicas - term.replicas.mean(axis=0) + term.weights)


def _response(
    weights: np.ndarray, slopes: np.ndarray, overlaps: np.ndarray, measured: np.ndarray, norm: np.ndarray
) -> np.ndarray:
    """sum_k w_k d<A>/dbeta_k = sum_k w_k (2 <phi|A|dphi_k> - <A> 2 <phi|dphi_k>) / <phi|phi>, summed over all vectors."""
    return (slopes @ weights - measured / norm * (overlaps @ weights)) / norm
