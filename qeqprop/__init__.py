"""Equilibrium propagation in quantum and classical physical systems: gradients that know how wrong they are.

    dL/dtheta = d/dbeta <dE/dtheta>_beta   at beta = 0

Importing qeqprop is silent and fast: every name below is loaded at first use (PEP 562).
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "citations": ["cite"],
    "core.agnostic": ["AgnosticStep", "agnostic_step", "fit_agnostic"],
    "core.budget": ["optimal_nudge"],
    "core.estimate": ["Estimate"],
    "core.gradient": ["EPGradient", "ep_gradient"],
    "core.history": ["History"],
    "core.nudge": ["ExpectationCost", "ObservableCost", "cross_entropy", "squared_error"],
    "core.reference": ["check_gradient", "finite_difference", "linear_response"],
    "core.response": ["ResponseMatrix", "response_matrix"],
    "core.repetition": ["repeated_gradient"],
    "core.scheme": ["LinearResponse", "Stencil", "centered", "holomorphic", "one_sided", "richardson"],
    "core.solver": ["Equilibrium", "equilibrate"],
    "core.spsa": ["spsa_gradient"],
    "core.status": ["AccuracyWarning", "EquilibriumError", "NudgeWarning", "Status"],
    "core.evaluation": ["accuracy", "evaluate", "predict"],
    "core.training": ["fit"],
    "quantum.adiabatic": ["AdiabaticPreparation"],
    "quantum.exact": ["ExactDiagonalization"],
    "quantum.free_fermion": ["FreeFermions"],
    "quantum.gaussian": ["GaussianGroundState"],
    "quantum.ising": ["TransverseFieldIsing"],
    "quantum.measurement": ["Measured"],
    "quantum.operators": ["MatrixOperator", "OperatorSystem"],
    "quantum.oscillators": ["HarmonicNetwork"],
    "quantum.pauli": ["PauliSum", "X", "Y", "Z", "identity", "projector"],
    "quantum.quadratic": ["P", "R"],
    "quantum.spins": ["SpinNetwork"],
    "quantum.states": ["PureState"],
    "quantum.thermal": ["GibbsState"],
    "quantum.vmc": ["VariationalMonteCarlo"],
    "quantum.typicality": ["ThermalPureStates"],
    "scans.scanning": ["open_scan", "scan"],
    "storage": ["load", "save"],
}
_MODULES = ["classical", "data", "plot", "quantum", "tasks"]
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        here = sys.modules[__name__]  # by which Python suggests names that are spelt alike
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_elsewhere(name)}", name=name, obj=here)
    globals()[name] = value
    return value


def _elsewhere(name: str) -> str:
    """Which part of the package has a name, in words."""
    parts = ("classical", "quantum") if not name.startswith("_") else ()
    home = next((part for part in parts if name in import_module(f"{__name__}.{part}").__all__), None)
    return "" if home is None else f", but `{__name__}.{home}.{name}` there is"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:  # the same names, for type checkers and editors
    from . import classical, data, plot, quantum, tasks
    from .citations import cite
    from .core.agnostic import AgnosticStep, agnostic_step, fit_agnostic
    from .core.budget import optimal_nudge
    from .core.estimate import Estimate
    from .core.evaluation import accuracy, evaluate, predict
    from .core.gradient import EPGradient, ep_gradient
    from .core.history import History
    from .core.nudge import ExpectationCost, ObservableCost, cross_entropy, squared_error
    from .core.reference import check_gradient, finite_difference, linear_response
    from .core.repetition import repeated_gradient
    from .core.response import ResponseMatrix, response_matrix
    from .core.scheme import LinearResponse, Stencil, centered, holomorphic, one_sided, richardson
    from .core.solver import Equilibrium, equilibrate
    from .core.spsa import spsa_gradient
    from .core.status import AccuracyWarning, EquilibriumError, NudgeWarning, Status
    from .core.training import fit
    from .quantum.adiabatic import AdiabaticPreparation
    from .quantum.exact import ExactDiagonalization
    from .quantum.free_fermion import FreeFermions
    from .quantum.gaussian import GaussianGroundState
    from .quantum.ising import TransverseFieldIsing
    from .quantum.measurement import Measured
    from .quantum.operators import MatrixOperator, OperatorSystem
    from .quantum.oscillators import HarmonicNetwork
    from .quantum.pauli import PauliSum, X, Y, Z, identity, projector
    from .quantum.quadratic import P, R
    from .quantum.spins import SpinNetwork
    from .quantum.states import PureState
    from .quantum.thermal import GibbsState
    from .quantum.typicality import ThermalPureStates
    from .quantum.vmc import VariationalMonteCarlo
    from .scans.scanning import open_scan, scan
    from .storage import load, save
