"""Any annealer that speaks dimod: simulated, tabu, or a quantum processing unit."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np

from ..core.extras import extra_module
from ..core.scheme import AbstractScheme
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.system import AbstractSystem, Params
from .annealing import configuration_of, lowest_of
from .ising import Ising, SpinModel
from .temperature import contrast

Options = Mapping[str, Any]


class FromBQM(NamedTuple):
    """A binary quadratic model as a network: energies are equal up to `offset`; `variables[i]` is the label of spin i."""

    system: Ising
    params: dict[str, np.ndarray]
    variables: tuple[Any, ...]
    offset: float


def to_bqm(system: Ising, params: Mapping[str, Any]) -> Any:
    """The network, inputs and nudges included, as a dimod model over spins 0 .. n_sites - 1 with the same energies.

    dimod writes +h s + J s s, so that all signs turn. Needs the package dimod (`pip install qeqprop[anneal]`).

    Example:
        >>> import qeqprop as qp
        >>> from qeqprop.classical import Ising, to_bqm
        >>> bqm = to_bqm(Ising(2, [(0, 1)]), {"J": [1.0], "h": [0.5, 0.0]})
        >>> print(bqm.linear[0], bqm.quadratic[0, 1])
        -0.5 -1.0
    """
    if not isinstance(system, Ising):
        raise TypeError(f"Argument `system` must be an Ising network, but is {type(system).__name__}.")
    if system.batch_size is not None:
        raise ValueError("Argument `system` must have inputs of one sample: a dimod model has no batch axis.")
    return _bqm(system.model(system.check_params(params)))


def from_bqm(bqm: Any) -> FromBQM:
    """A dimod model (binary ones in terms of spins s = 2x - 1) as a network with its parameters.

    Example:
        >>> import dimod
        >>> from qeqprop.classical import from_bqm
        >>> found = from_bqm(dimod.BinaryQuadraticModel({"a": 1.0}, {("a", "b"): -2.0}, 0.5, "SPIN"))
        >>> found.system, found.params["J"], found.variables, found.offset
        (Ising(2 spins, parameters J (1,), h (2,)), array([2.]), ('a', 'b'), 0.5)
    """
    spins = getattr(bqm, "spin", None)
    if spins is None:
        raise TypeError(f"Argument `bqm` must be a dimod.BinaryQuadraticModel, but is {type(bqm).__name__}.")
    variables = tuple(spins.variables)
    place = {variable: i for i, variable in enumerate(variables)}
    pairs = {(place[u], place[v]): -float(bias) for (u, v), bias in spins.quadratic.items()}
    params = {
        "J": np.array(list(pairs.values()), dtype=np.float64),
        "h": -np.array([float(spins.linear[variable]) for variable in variables]),
    }
    return FromBQM(Ising(len(variables), list(pairs)), params, variables, float(spins.offset))


def _bqm(model: SpinModel) -> Any:
    dimod = extra_module("dimod", "A dimod model", "dimod", "anneal")
    linear = dict(enumerate((-model.fields).tolist()))
    quadratic = {(int(i), int(j)): -float(c) for (i, j), c in zip(model.pairs, model.couplings, strict=True)}
    return dimod.BinaryQuadraticModel.from_ising(linear, quadratic, float(model.constant))


class Annealer(AbstractSolver):
    """The lowest configuration that a dimod sampler finds: `dwave.samplers`, a D-Wave QPU, or any other.

    As for `SimulatedAnnealing`, what a finite nudge gives at T = 0 is a **contrastive** learning rule, not a gradient; the
    default scheme is the two-phase contrast at beta = 1. Batches go sample by sample.

    Args:
        sampler: an object with dimod's `sample(bqm, **options)`.
        options: handed to every call, e.g. `{"num_reads": 20}`.
        reverse: `reverse(spins) -> options` of nudged phases, for samplers that can start at a state: `spins` is the free
            configuration {site: +-1}. For dwave.samplers e.g. `lambda spins: {"initial_states": spins}`, on a QPU
            `lambda spins: {"initial_state": spins, "anneal_schedule": ...}`. None anneals nudged phases from scratch.

    A seed goes to samplers that take one (`"seed" in sampler.parameters`).

    Example:
        >>> import qeqprop as qp
        >>> from dwave.samplers import SimulatedAnnealingSampler
        >>> from qeqprop.classical import Annealer, Ising
        >>> net, params = Ising(2, [(0, 1)]), {"J": [-1.0], "h": [0.5, 0.0]}
        >>> solver = Annealer(SimulatedAnnealingSampler(), options={"num_reads": 5})
        >>> qp.equilibrate(net, params, solver=solver, key=0).state.spins.ravel()
        array([ 1, -1], dtype=int8)
    """

    sampler: Any = eqx.field(static=True)
    options: Options = eqx.field(static=True)
    reverse: Callable[[dict[int, int]], Options] | None = eqx.field(static=True)

    name: ClassVar[str] = "Annealer"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def __init__(
        self,
        sampler: Any,
        *,
        options: Options | None = None,
        reverse: Callable[[dict[int, int]], Options] | None = None,
    ):
        if not callable(getattr(sampler, "sample", None)):
            raise TypeError(f"Argument `sampler` must be a dimod sampler, but is {type(sampler).__name__}.")
        if reverse is not None and not callable(reverse):
            raise TypeError(f"Argument `reverse` must be callable, but is {type(reverse).__name__}.")
        self.sampler, self.options, self.reverse = sampler, dict(options or {}), reverse

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The lowest state among the samples."""
        if not isinstance(system, Ising):
            raise wrong_system(system, "Annealer", "Ising networks, of pair couplings and fields")
        model, options = system.model(params), dict(self.options)
        if "seed" in (getattr(self.sampler, "parameters", None) or {}) and "seed" not in options:
            options["seed"] = int((key or np.random.SeedSequence()).generate_state(1)[0] >> 1)
        if init is not None and self.reverse is not None:
            options |= self.reverse({i: int(s) for i, s in enumerate(configuration_of(init))})
        found = self.sampler.sample(_bqm(model), **options)
        order = [found.variables.index(site) for site in range(system.n_sites)]
        return lowest_of(model, np.asarray(found.record.sample)[:, order].astype(np.int8))

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Refused: at T = 0 the response is zero almost everywhere."""
        raise ValueError("Annealer has no linear response: the state moves in jumps.")

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """The contrast of two phases at beta = 1."""
        return contrast(1.0)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state, from which reverse annealing starts."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def to_storage(self) -> dict[str, Any]:
        """The name of the sampler and the options, what is no plain data among them as it prints; no functions."""
        return {"sampler": _name(self.sampler), "options": _plain(self.options)}

    @classmethod
    def from_storage(cls, fields: dict[str, Any]) -> "Annealer":
        """What tells how a saved result was found; to go on with, make an `Annealer` with the sampler itself."""
        return cls(SavedSampler(fields["sampler"]), options=fields["options"])

    def __repr__(self) -> str:
        return f"Annealer({_name(self.sampler)})"


class SavedSampler(NamedTuple):
    """In the place of the sampler of an `Annealer` that was loaded from a file: only its name is known."""

    name: str

    def sample(self, bqm: Any, **options: Any) -> Any:
        """Refused: there is no sampler."""
        raise RuntimeError(
            f"This Annealer was loaded from a file, which knows its {self.name} by name only: make "
            f"Annealer({self.name}(...)) anew."
        )


def _name(sampler: Any) -> str:
    return sampler.name if isinstance(sampler, SavedSampler) else type(sampler).__name__


def _plain(options: Options) -> dict[str, Any]:
    """Options as they can be saved."""
    return {str(name): value if _is_plain(value) else repr(value) for name, value in options.items()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.generic | np.ndarray)
