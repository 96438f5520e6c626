"""Classical systems: energies of points in configuration space, and where they are least. Names load at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_NAMES = {
    "elastic": ["ElasticNetwork"],
    "energy": ["EnergySystem", "PointState"],
    "minimize": ["Minimizer"],
    "state_cost": ["Coordinates", "StateCost"],
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
    from .elastic import ElasticNetwork
    from .energy import EnergySystem, PointState
    from .minimize import Minimizer
    from .state_cost import Coordinates, StateCost
