"""Quantum systems: Pauli algebra, Hamiltonian builders, exact solvers. Names are loaded at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_NAMES = {
    "adiabatic": ["AdiabaticPreparation"],
    "evolution": ["Evolution", "evolve"],
    "commuting": ["commuting_bases"],
    "exact": ["ExactDiagonalization"],
    "fermion_states": ["FermionState", "OpenChainState"],
    "fock": ["FockSpace"],
    "fock_solver": ["FockSolver", "FockState"],
    "free_fermion": ["FreeFermions"],
    "gaussian": ["GaussianGroundState"],
    "gaussian_state": ["GaussianState", "SparseGaussianState"],
    "ising": ["TransverseFieldIsing"],
    "kubo": ["force_operators", "susceptibility"],
    "measured_oscillators": ["MeasuredOscillators"],
    "measured_state": ["MeasuredState"],
    "measurement": ["Measured"],
    "models": ["cluster_ising", "heisenberg", "kitaev_honeycomb", "phase_sensor", "phase_sensor_cost", "xxz"],
    "mps": ["MatrixProductGroundState"],
    "mps_state": ["MatrixProductState"],
    "operators": ["MatrixOperator", "OperatorSystem"],
    "oscillators": ["HarmonicNetwork"],
    "pauli": ["PauliSum", "X", "Y", "Z", "identity", "projector"],
    "state_preparations": ["Preparations", "preparations"],
    "quadratic": ["P", "Quadratic", "R"],
    "spins": ["SpinNetwork"],
    "sampled_state": ["SampledThermalState"],
    "states": ["BilinearState", "PureState"],
    "thermal": ["GibbsState", "ThermalState"],
    "vmc": ["VariationalMonteCarlo"],
    "vmc_models": ["LocalNetwork"],
    "vmc_netket": ["JaxSpinOperator"],
    "vmc_state": ["VariationalState"],
    "zero_variance_static": ["StaticResponse", "static_response"],
    "typicality": ["ThermalPureStates"],
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
    from .adiabatic import AdiabaticPreparation
    from .commuting import commuting_bases
    from .evolution import Evolution, evolve
    from .exact import ExactDiagonalization
    from .fermion_states import FermionState, OpenChainState
    from .fock import FockSpace
    from .fock_solver import FockSolver, FockState
    from .free_fermion import FreeFermions
    from .gaussian import GaussianGroundState
    from .gaussian_state import GaussianState, SparseGaussianState
    from .ising import TransverseFieldIsing
    from .kubo import force_operators, susceptibility
    from .measured_oscillators import MeasuredOscillators
    from .measured_state import MeasuredState
    from .measurement import Measured
    from .models import cluster_ising, heisenberg, kitaev_honeycomb, phase_sensor, phase_sensor_cost, xxz
    from .mps import MatrixProductGroundState
    from .mps_state import MatrixProductState
    from .operators import MatrixOperator, OperatorSystem
    from .oscillators import HarmonicNetwork
    from .pauli import PauliSum, X, Y, Z, identity, projector
    from .quadratic import P, Quadratic, R
    from .sampled_state import SampledThermalState
    from .spins import SpinNetwork
    from .state_preparations import Preparations, preparations
    from .states import BilinearState, PureState
    from .thermal import GibbsState, ThermalState
    from .typicality import ThermalPureStates
    from .vmc import VariationalMonteCarlo
    from .vmc_models import LocalNetwork
    from .vmc_netket import JaxSpinOperator
    from .vmc_state import VariationalState
    from .zero_variance_static import StaticResponse, static_response
