"""Pictures of results. Every function takes data and an `Axes` (or makes one), draws, and returns the `Axes`.

    ax = qp.plot.agreement(qp.check_gradient(net, params, cost))
    qp.plot.save(ax, "agreement.png")

Colours are told apart with every kind of colour vision. Matplotlib is imported at the first picture.
"""

from .agreement import agreement
from .canvas import new_axes, save
from .network import forces, gradient, network
from .nudge_error import error_vs_beta
from .phases import phase_diagram
from .spectrum import gap_vs_field
from .training import training_curves

__all__ = [
    "agreement",
    "error_vs_beta",
    "forces",
    "gap_vs_field",
    "gradient",
    "network",
    "new_axes",
    "phase_diagram",
    "save",
    "training_curves",
]
