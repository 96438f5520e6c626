"""train a network on real data by equilibrium propagation

Tasks: digits (handwritten 0, 1, 2), digits10 (all ten) and iris on transverse-field Ising networks, and phases: two
sensor qubits that learn the phase of a cluster-Ising ring.

The accuracy on held-out data is printed beside that of the untrained network, of the same network with its random
couplings frozen, and of logistic regression on the same inputs. The output folder gets history.npz (`qp.load`),
metrics.json, training.nc (xarray) and pictures. A training that is interrupted leaves a checkpoint there, from which the
same command with --resume goes on to the same numbers.
"""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from . import MISSED, OK

if TYPE_CHECKING:
    from ..tasks import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=("digits", "digits10", "iris", "phases"))
    parser.add_argument("--sites", type=int, help="number of spins (default: digits 9, digits10 10, iris 3, phases 8)")
    parser.add_argument("--epochs", type=int, help="passes over the training data (default: the task's own)")
    parser.add_argument("--seed", type=int, default=0, help="of split, initial parameters and shuffling (default: 0)")
    parser.add_argument("--coupling", choices=("full", "Z"), default="full", help="phases: what the sensors couple to")
    parser.add_argument("--goal", type=float, metavar="ACCURACY", help="exit with 1 below this test accuracy")
    parser.add_argument("--out", type=Path, help="folder (default: ./qeqprop-train/TASK)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    from . import learning

    task = _task(args)
    print(task)
    folder = args.out or Path("qeqprop-train") / task.name
    unfinished = folder / "unfinished"  # the checkpoint, until the results are written
    trained = learning.train(
        task,
        seed=args.seed,
        epochs=args.epochs,
        progress=not args.quiet,
        checkpoint=unfinished,
        resume=args.resume,
    )
    print(trained.result)
    for path in learning.write(trained, folder):
        print(f"wrote {path}")
    shutil.rmtree(unfinished)
    return MISSED if args.goal is not None and trained.result.trained < args.goal else OK


def _task(args: argparse.Namespace) -> "Task":
    from ..tasks import TASKS

    options = {} if args.sites is None else {"n_sites": args.sites}
    if args.task == "phases":
        options["coupling"] = args.coupling
    elif args.coupling != "full":
        raise ValueError(f"Option `--coupling` belongs to the task phases, but the task is {args.task}.")
    return TASKS[args.task](**options)
