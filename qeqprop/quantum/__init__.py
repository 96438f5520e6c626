"""Quantum systems: Pauli algebra, Hamiltonian builders, exact solvers. Names are loaded at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_NAMES = {
    "exact": ["ExactDiagonalization"],
    "ising": ["TransverseFieldIsing"],
    "models": ["cluster_ising", "heisenberg", "kitaev_honeycomb", "phase_sensor", "phase_sensor_cost", "xxz"],
    "operators": ["MatrixOperator", "OperatorSystem"],
    "pauli": ["PauliSum", "X", "Y", "Z", "identity", "projector"],
    "spins": ["SpinNetwork"],
    "states": ["BilinearState", "PureState"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from .exact import ExactDiagonalization
    from .ising import TransverseFieldIsing
    from .models import cluster_ising, heisenberg, kitaev_honeycomb, phase_sensor, phase_sensor_cost, xxz
    from .operators import MatrixOperator, OperatorSystem
    from .pauli import PauliSum, X, Y, Z, identity, projector
    from .spins import SpinNetwork
    from .states import BilinearState, PureState
