"""Classical systems: energies of points in configuration space, and where they are least. Names load at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_NAMES = {
    "active_set": ["ActiveSet"],
    "allostery": ["Allostery", "AllosteryResult", "elastic_allostery", "flow_allostery"],
    "annealer": ["Annealer", "FromBQM", "from_bqm", "to_bqm"],
    "annealing": ["SimulatedAnnealing"],
    "asymmetric": ["AsymEP", "FixedPoint"],
    "block_descent": ["BlockDescent"],
    "clamp": ["Clamp"],
    "continual": ["ContinualStep", "continual_step", "fit_continual"],
    "convolution": ["Convolution"],
    "coordinates": ["Coordinates"],
    "deep_resistive": ["DeepResistiveNetwork"],
    "diode_model": ["DiodeModel"],
    "discrete_time": ["DiscreteTime", "backpropagation_through_time", "nudged_updates"],
    "domains": ["Box", "RealSpace", "Spins", "Torus"],
    "elastic": ["ElasticNetwork"],
    "energy": ["PointState"],
    "energy_system": ["EnergySystem"],
    "enumeration": ["EnumeratedState", "ExactEnumeration"],
    "fire": ["Fire"],
    "flow": ["FlowNetwork"],
    "gradient_flow": ["GradientFlow"],
    "hamiltonian": ["EchoState", "HamiltonianSystem"],
    "hamiltonian_echo": ["HamiltonianEcho"],
    "harmonic_oscillators": ["HarmonicOscillators"],
    "heat_bath": ["HeatBath"],
    "holomorphic": ["HolomorphicMinimizer"],
    "hopfield": ["DeepHopfield", "softmax_cross_entropy"],
    "interactions": ["Dense"],
    "ising": ["Ising"],
    "lagrangian": ["LagrangianSystem"],
    "layered": ["LayeredState"],
    "layered_phases": ["LayeredPhaseOscillators", "aligned_log_alignment", "aligned_misalignment"],
    "minimize": ["Minimizer"],
    "prediction_sweeps": ["PredictionSweeps"],
    "predictive_coding": ["LayeredActivities", "PredictiveCodingNetwork"],
    "phase_oscillators": ["OscillatorIsing", "PhaseOscillators", "log_alignment", "misalignment"],
    "point_ensemble": ["PointEnsemble"],
    "random_starts": ["RandomStarts"],
    "resistive": ["CircuitState", "Diode", "ResistiveNetwork"],
    "rigidity": ["RigidityReport", "rigidity_report"],
    "rules": ["RULES", "LearningRule", "half_squared_error"],
    "spin_distribution": ["SpinDistribution"],
    "spin_ensemble": ["SpinEnsemble"],
    "shockley": ["ShockleyNetwork"],
    "spice": ["SpiceCheck", "check_with_ngspice", "to_spice"],
    "stationary_action": ["StationaryAction"],
    "stuart_landau": ["StuartLandau"],
    "state_cost": ["StateCost"],
    "tempering": ["ParallelTempering"],
    "unit_vectors": ["Alignment"],
    "trajectories": ["ErrorProcess", "nudged_velocities", "recurrent_backpropagation"],
    "vector_field": ["FieldState", "VectorField"],
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
    from .active_set import ActiveSet
    from .allostery import Allostery, AllosteryResult, elastic_allostery, flow_allostery
    from .annealer import Annealer, FromBQM, from_bqm, to_bqm
    from .annealing import SimulatedAnnealing
    from .asymmetric import AsymEP, FixedPoint
    from .block_descent import BlockDescent
    from .clamp import Clamp
    from .continual import ContinualStep, continual_step, fit_continual
    from .convolution import Convolution
    from .coordinates import Coordinates
    from .deep_resistive import DeepResistiveNetwork
    from .diode_model import DiodeModel
    from .discrete_time import DiscreteTime, backpropagation_through_time, nudged_updates
    from .domains import Box, RealSpace, Spins, Torus
    from .elastic import ElasticNetwork
    from .energy import PointState
    from .energy_system import EnergySystem
    from .enumeration import EnumeratedState, ExactEnumeration
    from .fire import Fire
    from .flow import FlowNetwork
    from .gradient_flow import GradientFlow
    from .hamiltonian import EchoState, HamiltonianSystem
    from .hamiltonian_echo import HamiltonianEcho
    from .harmonic_oscillators import HarmonicOscillators
    from .heat_bath import HeatBath
    from .holomorphic import HolomorphicMinimizer
    from .hopfield import DeepHopfield, softmax_cross_entropy
    from .interactions import Dense
    from .ising import Ising
    from .lagrangian import LagrangianSystem
    from .layered import LayeredState
    from .layered_phases import LayeredPhaseOscillators, aligned_log_alignment, aligned_misalignment
    from .minimize import Minimizer
    from .phase_oscillators import OscillatorIsing, PhaseOscillators, log_alignment, misalignment
    from .point_ensemble import PointEnsemble
    from .prediction_sweeps import PredictionSweeps
    from .predictive_coding import LayeredActivities, PredictiveCodingNetwork
    from .random_starts import RandomStarts
    from .resistive import CircuitState, Diode, ResistiveNetwork
    from .rigidity import RigidityReport, rigidity_report
    from .rules import RULES, LearningRule, half_squared_error
    from .shockley import ShockleyNetwork
    from .spice import SpiceCheck, check_with_ngspice, to_spice
    from .spin_distribution import SpinDistribution
    from .spin_ensemble import SpinEnsemble
    from .state_cost import StateCost
    from .stationary_action import StationaryAction
    from .stuart_landau import StuartLandau
    from .tempering import ParallelTempering
    from .trajectories import ErrorProcess, nudged_velocities, recurrent_backpropagation
    from .unit_vectors import Alignment
    from .vector_field import FieldState, VectorField
