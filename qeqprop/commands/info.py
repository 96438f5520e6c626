"""versions, precision, threads, memory, and how many spins fit"""

import argparse
import functools
import json
import os
import platform
from importlib import metadata
from typing import Any

from . import OK

PACKAGES = (
    "numpy", "scipy", "jax", "jaxlib", "equinox", "optax", "netket", "qutip", "numba", "networkx", "xarray",
    "h5netcdf", "matplotlib", "scikit-learn", "mlxtend", "quspin", "distributed",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(args: argparse.Namespace) -> int:
    facts = {"versions": versions(), "machine": machine()}
    if args.json:
        print(json.dumps(facts, indent=2))
        return OK
    for title, section in facts.items():
        print(title)
        for name, value in section.items():
            print(f"  {name:<26} {'-' if value is None else value}")
    return OK


def versions() -> dict[str, str | None]:
    """Installed versions, without importing anything; None where a package is missing."""
    from .. import __version__

    return {"qeqprop": __version__, "python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """What bounds a computation here."""
    from ..core.memory import available_memory, container_limit, format_bytes
    from ..scans.scanning import cores

    free, limit = available_memory(), container_limit()
    return {
        "system": platform.platform(),
        "threads": cores(),
        "NUMBA_NUM_THREADS": os.environ.get("NUMBA_NUM_THREADS"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "memory available": format_bytes(free),
        "memory limit of container": None if limit is None else format_bytes(limit),
        "64-bit JAX": _x64(),
        "largest exact network": f"{largest_exact(free)} spins",
    }


def _x64() -> str:
    setting = os.environ.get("JAX_ENABLE_X64", "").strip().lower()
    if setting in {"0", "f", "false", "n", "no", "off"}:
        return f"forbidden by JAX_ENABLE_X64={setting}: no gradients of cost functions"
    return "on" if setting else "switched on at first use"


def largest_exact(free: int) -> int:
    """Number of spins of the largest real Hamiltonian whose exact solution fits (a complex one: one spin less)."""
    from ..quantum.exact_spins import LARGE_VECTORS

    return max(0, (int(0.9 * free) // (8 * LARGE_VECTORS)).bit_length() - 1)
