"""Real-time evolution of pure states, at fixed parameters or while the parameters are ramped."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.module import AbstractModule
from ..core.real import check_fraction
from ..core.system import AbstractSystem, Params, real_array
from .hamiltonian_path import HamiltonianPath, MatrixPath, SpinPath, kernel_sites
from .operators import OperatorSystem
from .pauli import PauliSum
from .ramps import check_ramp
from .spins import AbstractSpinSystem
from .states import PureState
from .strings import StringTable, string_table
from .taylor import VECTORS, follow


class Evolution(AbstractModule):
    """States at some times, and how well they are known.

    Attributes:
        times: shape (n_times,).
        states: a `PureState` whose batch axis is the time.
        error: bound on the distance of the last state to the exact one.
        norm_drift: change of the norm, an independent measure of the error (the states are normalised).
        steps, products: what it took.
    """

    times: np.ndarray
    states: PureState
    error: float
    norm_drift: float
    steps: int
    products: int

    @property
    def final(self) -> PureState:
        """The state at the last time."""
        return PureState(self.states.n_sites, self.states.amplitudes[-1])

    def expect(self, observable: Any) -> Estimate:
        """<O> at all times, shape (n_times,)."""
        return self.states.expect(observable)

    def __repr__(self) -> str:
        return (
            f"Evolution({len(self.times)} times from {self.times[0]:g} to {self.times[-1]:g}, {self.states}, "
            f"error {self.error:.1e}, norm drift {self.norm_drift:.1e}, {self.steps} steps, {self.products} products)"
        )


def evolve(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    state: PureState,
    times: Sequence[float] | np.ndarray,
    *,
    final: Mapping[str, ArrayLike] | None = None,
    ramp: str = "linear",
    inputs: ArrayLike | None = None,
    accuracy: float = 1e-10,
    memory: int | None = None,
) -> Evolution:
    r"""Solve i d psi/dt = H(t) psi (hbar = 1) with

    .. math:: H(t) = (1 - s(t)) H(\theta) + s(t) H(\theta_{final})

    by Taylor series of order 30 in time with controlled steps (see `quantum.taylor`), matrix-free for spins.

    Args:
        system: a spin network or an operator system; its nudges belong to H.
        params: theta.
        state: the state at `times[0]`, a `PureState` without batch axis; it is normalised.
        times: rising; the ramp begins at the first and ends at the last.
        final: the parameters at the last time; None keeps H fixed.
        ramp: s(t): "linear", "smooth" = (1 - cos(pi t/T))/2, or "sudden", which is a quench to `final`.
        inputs: shape `system.input_shape`.
        accuracy: bound on the distance of the last state to the exact one. Rounding adds about 1e-12.
        memory: bytes that may be used; None takes 90 % of what is free.

    Raises:
        TypeError, ValueError: bad arguments. MemoryError: the vectors do not fit; before anything is allocated.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> spin = qp.TransverseFieldIsing(1, [])
        >>> up = qp.PureState(1, np.array([1.0, 0.0]))
        >>> run = qp.quantum.evolve(spin, {"J": [], "h": [0.0], "g": [1.0]}, up, [0.0, np.pi / 4, np.pi / 2])
        >>> print(run.expect(qp.Z(0)).mean.round(9) + 0.0)  # cos(2 g t)
        [ 1.  0. -1.]
    """
    if not isinstance(system, AbstractSpinSystem | OperatorSystem):
        raise TypeError(f"Argument `system` must be a spin network or an OperatorSystem, not {type(system).__name__}.")
    first = system.check_params(params)
    last = first if final is None else system.check_params(final)
    if inputs is not None:
        system = system.with_inputs(inputs)
    clock = check_times(times)
    check_ramp(ramp)
    accuracy = check_accuracy(accuracy)
    check_single(system)
    psi = check_state(state, system)
    vectors = VECTORS + (2 if len(clock) == 1 else 2 * len(clock))
    check_size(system, vectors, memory)
    path = path_between(system, first, last)
    if len(clock) == 1:
        return Evolution(clock, PureState(state.n_sites, psi[None]), 0.0, 0.0, 0, 0)
    out = follow(
        path,
        path.to_real(psi),
        "sudden" if final is None else ramp,
        float(clock[-1] - clock[0]),
        accuracy,
        list(clock - clock[0]),
    )
    amplitudes = np.stack([normalized(path.to_amplitudes(vector)) for vector in out.vectors])
    states = PureState(state.n_sites, amplitudes)
    return Evolution(clock, states, out.error, out.norm_drift, out.steps, out.products)


def path_between(system: AbstractSpinSystem | OperatorSystem, first: Params, last: Params) -> HamiltonianPath:
    """From H(first) to H(last), nudges and inputs included."""
    if isinstance(system, OperatorSystem):
        return MatrixPath(system.matrix(first), system.matrix(last))
    table = system_table(system)
    ends = (table.coefficients.T @ system.strengths(params) for params in (first, last))
    return SpinPath(system.n_sites, table, *ends)


def system_table(system: AbstractSpinSystem, extra: tuple[PauliSum, ...] = ()) -> StringTable:
    """The strings of a system, and of other operators, for a `SpinPath`."""
    return string_table((*system.operators(), *extra), kernel_sites(system.n_sites), realified=True)


def normalized(amplitudes: np.ndarray) -> np.ndarray:
    """The amplitudes with norm 1."""
    return amplitudes / np.linalg.norm(amplitudes)


def check_single(system: AbstractSpinSystem | OperatorSystem) -> None:
    """Refuse batches and complex nudges."""
    if system.batch_size is not None:
        raise ValueError(
            f"One system is evolved at a time, but `inputs` has a batch axis of length {system.batch_size}."
        )
    if any(np.iscomplexobj(strength) for _, strength in system.nudges):
        raise ValueError("A complex nudge has no real-time evolution: use centered or richardson.")


def check_size(system: AbstractSpinSystem | OperatorSystem, vectors: int, memory: int | None) -> None:
    """Refuse an evolution that does not fit, with numbers."""
    if isinstance(system, AbstractSpinSystem):
        size, what = 2 << kernel_sites(system.n_sites), f"{system.n_sites} spins"
    else:
        size, what = 2 * system.dim, f"a system of dimension {system.dim}"
    needs = f"The evolution of {what} ({vectors} vectors of {size} float64)"
    check_memory(8 * vectors * size, needs, "Use fewer sites.", memory)


def check_accuracy(accuracy: float) -> float:
    """A bound on the error of an evolution that float64 can keep."""
    return check_fraction(accuracy, "accuracy", 1e-13)


def check_times(times: Sequence[float] | np.ndarray) -> np.ndarray:
    """`times` as a rising array."""
    clock = real_array(times, "times")
    if clock.ndim != 1 or not clock.size or np.any(np.diff(clock) <= 0):
        raise ValueError(f"Argument `times` must be a list of rising times, but is {times!r}.")
    return clock


def check_state(state: Any, system: AbstractSpinSystem | OperatorSystem, name: str = "state") -> np.ndarray:
    """The normalised amplitudes of a pure state of this system."""
    if not isinstance(state, PureState):
        raise TypeError(f"Argument `{name}` must be a PureState, but is {type(state).__name__}.")
    dim = 1 << system.n_sites if isinstance(system, AbstractSpinSystem) else system.dim
    amplitudes = np.asarray(state.amplitudes)
    if amplitudes.shape != (dim,):
        raise ValueError(f"Argument `{name}` must have amplitudes of shape ({dim},), but has shape {amplitudes.shape}.")
    norm = np.linalg.norm(amplitudes)
    if not np.isfinite(norm) or norm == 0:
        raise ValueError(f"Argument `{name}` must be finite and not zero, but has norm {norm}.")
    return normalized(amplitudes).astype(np.complex128)
