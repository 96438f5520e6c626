"""one gradient checked three ways, then a quantum network trained on handwritten digits

About a minute. Figures, tables (netCDF) and a summary (JSON) go to the output folder.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import MISSED, OK

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from ..core.gradient import EPGradient
    from ..core.reference import GradientCheck

N_SITES, BETA = 10, 0.01
SCHEMES = ("one_sided", "centered", "richardson")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("qeqprop-demo"), help="folder (default: ./qeqprop-demo)")
    parser.add_argument("--seed", type=int, default=0, help="of data split, parameters and shuffling (default: 0)")
    parser.add_argument("--quick", action="store_true", help="fewer nudges and one epoch of training")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    outcome = {"command": "demo", "seed": args.seed, "quick": args.quick}
    heading(f"1  One gradient, three ways: {N_SITES} spins, cost <Z{N_SITES - 1}>")
    comparison = compare(5 if args.quick else 13)
    print_comparison(comparison)
    outcome["gradient"] = comparison.summary()
    written = write_comparison(comparison, args.out)

    heading("2  Training on handwritten digits 0, 1, 2")
    from ..tasks import digits_task
    from . import learning

    task = digits_task()  # without scikit-learn it is refused here, the first part done and written
    print(f"{task.system}\n{task.n_params} parameters, {task.scheme}, Adam {task.learning_rate:g}")
    print("afterwards, for comparison: the same with frozen couplings, and logistic regression", flush=True)
    trained = learning.train(task, seed=args.seed, epochs=1 if args.quick else None, progress=not args.quiet)
    print(trained.result)
    written += learning.write(trained, args.out)

    heading("3  Files")
    outcome |= {"training": learning.summary(trained), "wall_seconds": time.perf_counter() - started}
    from .files import write_json

    written.append(write_json(args.out / "summary.json", outcome))
    for path in written:
        print(f"  {path}")
    print(f"{outcome['wall_seconds']:.0f} s")
    learnt = trained.result.trained > max(trained.result.untrained, trained.result.frozen or 0.0)
    return OK if comparison.check.agrees and (learnt or args.quick) else MISSED


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


class Comparison(NamedTuple):
    """A gradient beside its references, and its error against beta.

    Attributes:
        check: EP, linear response and finite differences.
        betas: nudge strengths, shape (n,).
        errors: scheme -> ||EP - linear response|| / ||linear response||, shape (n,).
        reported: scheme -> the error that EP reported, relative, shape (n,).
        floor: relative error that the solver's residual may cause, shape (n,).
    """

    check: "GradientCheck"
    betas: "np.ndarray"
    errors: dict[str, "np.ndarray"]
    reported: dict[str, "np.ndarray"]
    floor: "np.ndarray"

    def summary(self) -> dict[str, Any]:
        return {
            "agrees": self.check.agrees,
            "scheme": repr(self.check.ep.scheme),
            "loss": float(self.check.ep.loss),
            "gap": self.check.ep.free.worst()[1],
            "deviations": self.check.deviations,
            "tolerances": self.check.tolerances,
            "betas": self.betas,
            "errors": self.errors,
        }


def compare(n_betas: int) -> Comparison:
    """The check at one beta, and the error of three schemes over `n_betas` nudges."""
    import numpy as np

    import qeqprop as qp

    net = qp.TransverseFieldIsing(N_SITES, [(i, i + 1) for i in range(N_SITES - 1)])
    params = {"J": np.ones(N_SITES - 1), "h": 0.1 * np.ones(N_SITES), "g": np.ones(N_SITES)}
    cost = qp.ObservableCost(qp.Z(N_SITES - 1))
    check = qp.check_gradient(net, params, cost, scheme=qp.centered(BETA))
    exact = _flat(check.references["linear response"].grad)
    betas, norm = np.geomspace(1e-5, 0.1, n_betas), np.linalg.norm(exact)
    outs = {
        name: [qp.ep_gradient(net, params, cost, scheme=getattr(qp, name)(beta), throw=False) for beta in betas]
        for name in SCHEMES
    }
    return Comparison(
        check=check,
        betas=betas,
        errors={name: np.array([np.linalg.norm(_flat(o.grad) - exact) / norm for o in outs[name]]) for name in SCHEMES},
        reported={name: np.array([np.linalg.norm(_reported(o)) / norm for o in outs[name]]) for name in SCHEMES},
        floor=np.array([out.residual / norm for out in outs["centered"]]),
    )


def _flat(tree: dict[str, Any]) -> "np.ndarray":
    import numpy as np

    return np.concatenate([np.ravel(value) for value in tree.values()])


def _reported(out: "EPGradient") -> "np.ndarray":
    """All that EP says about its error, component by component."""
    return _flat(out.truncation) + _flat(out.stderr) + out.residual


def print_comparison(comparison: Comparison) -> None:
    """First, middle and last component of every parameter; then the errors against beta."""
    ep, references = comparison.check.ep, comparison.check.references
    print(f"{ep.scheme}, gap {ep.free.worst()[1]:.3f}, loss {float(ep.loss):.6f}")
    print(f"  {'':<6}{'EP':>14}{'its error':>12}" + "".join(f"{name:>21}" for name in references))
    for name, grad in ep.grad.items():
        for k in (0, grad.size // 2, grad.size - 1):
            values = "".join(f"{out.grad[name][k]:>21.8f}" for out in references.values())
            label = f"{name}[{k}]"
            print(f"  {label:<6}{grad[k]:>14.8f}{ep.truncation[name][k] + ep.residual:>12.1e}{values}")
    for name, deviation in comparison.check.deviations.items():
        print(f"  |EP - {name}| / |gradient| = {deviation:.1e}, expected up to {comparison.check.tolerances[name]:.1e}")
    print("\nrelative error of EP against linear response (reported by EP in parentheses)")
    print(f"  {'beta':<9}" + "".join(f"{name:>22}" for name in SCHEMES))
    for k, beta in enumerate(comparison.betas):
        cells = (f"{comparison.errors[name][k]:.1e} ({comparison.reported[name][k]:.1e})" for name in SCHEMES)
        print(f"  {beta:<9.1e}" + "".join(f"{cell:>22}" for cell in cells))


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Two pictures and a table."""
    from .. import plot
    from .files import write_netcdf

    agreement = plot.agreement(comparison.check, plot.new_axes((6.0, 6.0)))
    against_beta = plot.error_vs_beta(comparison.betas, comparison.errors, plot.new_axes(), floor=comparison.floor)
    return [
        plot.save(agreement, folder / "agreement.png"),
        plot.save(against_beta, folder / "error_vs_beta.png"),
        write_netcdf(folder / "gradient.nc", table(comparison)),
    ]


def table(comparison: Comparison) -> "xr.Dataset":
    """The comparison with named dimensions."""
    import numpy as np
    import xarray as xr

    ep, references = comparison.check.ep, comparison.check.references
    labels = [f"{name}[{k}]" for name, grad in ep.grad.items() for k in range(grad.size)]
    gradients = np.stack([_flat(out.grad) for out in (ep, *references.values())])
    return xr.Dataset(
        {
            "gradient": (("estimator", "component"), gradients, {"long_name": "dL/dtheta"}),
            "reported_error": ("component", _reported(ep), {"long_name": "error reported by EP"}),
            "error": (("scheme", "beta"), np.stack([comparison.errors[name] for name in SCHEMES])),
            "error_reported": (("scheme", "beta"), np.stack([comparison.reported[name] for name in SCHEMES])),
            "residual_floor": ("beta", comparison.floor),
        },
        coords={
            "estimator": ["EP", *references],
            "component": labels,
            "scheme": list(SCHEMES),
            "beta": ("beta", comparison.betas, {"long_name": "nudge strength"}),
        },
        attrs={"title": "a gradient by EP and by its references", "scheme": repr(ep.scheme), "loss": float(ep.loss)},
    )
