"""Classical systems: energies of points in configuration space, and where they are least. Names load at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_NAMES = {
    "active_set": ["ActiveSet"],
    "allostery": ["Allostery", "AllosteryResult", "elastic_allostery", "flow_allostery"],
    "annealer": ["Annealer", "FromBQM", "from_bqm", "to_bqm"],
    "annealing": ["SimulatedAnnealing"],
    "block_descent": ["BlockDescent"],
    "clamp": ["Clamp"],
    "deep_resistive": ["DeepResistiveNetwork", "LayeredVoltages"],
    "elastic": ["ElasticNetwork"],
    "energy": ["EnergySystem", "PointState"],
    "enumeration": ["EnumeratedState", "ExactEnumeration"],
    "flow": ["FlowNetwork"],
    "heat_bath": ["HeatBath"],
    "ising": ["Ising"],
    "minimize": ["Minimizer"],
    "resistive": ["CircuitState", "Diode", "ResistiveNetwork"],
    "rigidity": ["RigidityReport", "rigidity_report"],
    "rules": ["RULES", "LearningRule"],
    "spin_ensemble": ["SpinEnsemble"],
    "spice": ["DiodeModel", "SpiceCheck", "check_with_ngspice", "to_spice"],
    "state_cost": ["Coordinates", "StateCost"],
    "tempering": ["ParallelTempering"],
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
    from .block_descent import BlockDescent
    from .clamp import Clamp
    from .deep_resistive import DeepResistiveNetwork, LayeredVoltages
    from .elastic import ElasticNetwork
    from .energy import EnergySystem, PointState
    from .enumeration import EnumeratedState, ExactEnumeration
    from .flow import FlowNetwork
    from .heat_bath import HeatBath
    from .ising import Ising
    from .minimize import Minimizer
    from .resistive import CircuitState, Diode, ResistiveNetwork
    from .rigidity import RigidityReport, rigidity_report
    from .rules import RULES, LearningRule
    from .spice import DiodeModel, SpiceCheck, check_with_ngspice, to_spice
    from .spin_ensemble import SpinEnsemble
    from .state_cost import Coordinates, StateCost
    from .tempering import ParallelTempering
