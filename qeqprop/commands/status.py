"""how far a scan is: points done, failed and missing, also while it runs"""

import argparse
import json
from pathlib import Path

from . import OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a scan")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(args: argparse.Namespace) -> int:
    from ..scans.grid import Grid
    from ..scans.ledger import DONE, FAILED, Ledger

    ledger = Ledger(args.folder)
    manifest = ledger.read_manifest()
    if manifest is None:
        raise FileNotFoundError(2, "no scan there (no manifest.json)", str(ledger.folder))
    keys = [point.key for point in Grid(manifest["axes"], manifest["along"]).points]
    known = ledger.statuses()
    codes = [known.get(key) for key in keys]
    counts = {"points": len(keys), "done": codes.count(DONE), "failed": codes.count(FAILED)}
    counts["missing"] = counts["points"] - counts["done"] - counts["failed"]
    if args.json:
        print(json.dumps({"function": manifest["function"], **counts}))
    else:
        print(f"{manifest['function']}: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    return OK
