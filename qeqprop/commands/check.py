"""compare equilibrium propagation with linear response and finite differences on a model of yours

MODEL.toml, with all its sections ([scheme], [solver] and [check] may be left out):

    [system]
    type = "TransverseFieldIsing"   # or "heisenberg", "xxz"
    n_sites = 10
    edges = "chain"                 # "ring", "all", or [[0, 1], [1, 2], ...]

    [params]                        # one number for all components, or a list
    J = 1.0
    h = 0.1
    g = 1.0
    # seed = 0                      # draws the names that are left out

    [cost]
    observable = "Z9"               # any Pauli sum, e.g. "Z0 Z1 - 0.5 * X2"
    # observables = ["Z8", "Z9"]    # or a loss of several expectation values:
    # target = [1.0, -1.0]
    # loss = "squared_error"        # or "cross_entropy"

    [scheme]
    name = "centered"               # "one_sided", "richardson"; "holomorphic" with radius, n_points
    beta = 0.01

    [solver]
    tolerance = 1e-10
    # max_iterations = 5000

    [check]
    # step = 0.01                   # of the finite differences
    # rtol = 1e-6                   # added to the reported errors
"""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import MISSED, OK

if TYPE_CHECKING:
    from ..core.reference import GradientCheck


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.toml")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the comparison (.png, .pdf, .svg)")


def run(args: argparse.Namespace) -> int:
    from ..core.reference import check_gradient
    from .modelfile import read_model

    model = read_model(args.model)
    result = check_gradient(
        model.system,
        model.params,
        model.nudge,
        model.target,
        solver=model.solver,
        scheme=model.scheme,
        **model.options,
    )
    if args.plot is not None:
        from .. import plot

        plot.save(plot.agreement(result, ax=plot.new_axes((6.0, 6.0))), args.plot)
    print(json.dumps(to_json(result), indent=2) if args.json else result)
    return OK if result.agrees else MISSED


def to_json(result: "GradientCheck") -> dict[str, Any]:
    """The comparison as plain numbers; what is not a number (an error that was not estimated) is null."""
    from .info import versions

    def plain(tree: dict[str, Any]) -> dict[str, Any]:
        return {name: [x if math.isfinite(x) else None for x in value.ravel().tolist()] for name, value in tree.items()}

    ep = result.ep
    return {
        "agrees": result.agrees,
        "vanishes": result.vanishes,
        "status": str(ep.status),
        "loss": float(ep.loss),
        "gap": ep.free.worst()[1],
        "residual": ep.residual,
        "nudge_ratio": ep.nudge_ratio,
        "scheme": repr(ep.scheme),
        "gradient": plain(ep.grad),
        "stderr": plain(ep.stderr),
        "truncation": plain(ep.truncation),
        "references": {name: plain(out.grad) for name, out in result.references.items()},
        "deviations": result.deviations,
        "tolerances": result.tolerances,
        "versions": versions(),
    }
