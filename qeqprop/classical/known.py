"""What a solver of layered networks computed at some parameters, and would be dear to compute again."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..core.system import Params, unchangeable


class Known(NamedTuple):
    """What is known of a state besides its layers.

    Attributes:
        params: at which it was computed, `frozen`.
        drives: what the inputs send into the layers, by interaction; batch axis first.
        signals: of predictive coding, errors times slopes by layer, batch axis first; None in a free state, where nothing is
            wrong and all of them are 0.
    """

    params: Params
    drives: Any
    signals: Mapping[int, Any] | None = None

    def belongs_to(self, params: Params) -> bool:
        """Whether `params` are those at which it was computed."""
        return all(
            value is self.params[name] or np.array_equal(value, self.params[name]) for name, value in params.items()
        )


def frozen(params: Params) -> Params:
    """The parameters themselves where nobody can change them any more, else copies."""
    return {name: value if unchangeable(value) else value.copy() for name, value in params.items()}


def known_drives(known: Known | None, params: Params, begun: np.ndarray, inputs: np.ndarray) -> Any:
    """What the inputs send, where it is known at these parameters of a state that `begun` with these inputs; else None."""
    if known is None or not known.belongs_to(params) or not (begun is inputs or np.array_equal(begun, inputs)):
        return None
    return known.drives
