"""Kitaev's honeycomb model on an 8 x 2 brick wall: levels, flux, and the EP gradient of the flux in a magnetic field.

python studies/kitaev_honeycomb/kitaev_honeycomb.py            # a minute: results.json and the figure
python studies/kitaev_honeycomb/kitaev_honeycomb.py --quick    # energy, gap and flux only, compared with results.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import qeqprop as qp

HERE = Path(__file__).parent
COLUMNS, ROWS = 8, 2
FIELDS = tuple(round(0.05 * k, 2) for k in range(1, 11))
PUBLISHED = {"energy": -13.44113247, "first excited": -13.40033919}  # arXiv:2406.06482, the authors' repository


def site(column: int, row: int) -> int:
    """Number of a site of the periodic brick wall."""
    return column % COLUMNS + row % ROWS * COLUMNS


def brick_wall() -> qp.SpinNetwork:
    """H = Jx sum_x XX + Jy sum_y YY + Jz sum_z ZZ + h sum_j (X_j + Y_j + Z_j), uniform couplings.

    Sites with even column + row have an x bond to the right and a z bond to the row below, the others a y bond to the right.
    """
    bonds: dict[str, list[qp.PauliSum]] = {"Jx": [], "Jy": [], "Jz": []}
    for column, row in np.ndindex(COLUMNS, ROWS):
        here, right, below = site(column, row), site(column + 1, row), site(column, row - 1)
        if (column + row) % 2 == 0:
            bonds["Jx"].append(qp.X(here) * qp.X(right))
            bonds["Jz"].append(qp.Z(here) * qp.Z(below))
        else:
            bonds["Jy"].append(qp.Y(here) * qp.Y(right))
    zero = 0 * qp.identity()
    field = sum((pauli(i) for i in range(COLUMNS * ROWS) for pauli in (qp.X, qp.Y, qp.Z)), zero)
    return qp.SpinNetwork(COLUMNS * ROWS, {**{name: [sum(b, zero)] for name, b in bonds.items()}, "h": [field]})


def flux() -> qp.PauliSum:
    """W = X Y Z X Y Z around the plaquette of columns 1 to 3."""
    corners = (site(1, 0), site(1, 1), site(2, 1), site(3, 1), site(3, 0), site(2, 0))
    paulis = (qp.X, qp.Y, qp.Z) * 2
    return np.prod([pauli(corner) for pauli, corner in zip(paulis, corners, strict=True)])


def couplings(field: float) -> dict[str, np.ndarray]:
    """Jx = Jy = Jz = 1 in a field h."""
    return {"Jx": np.ones(1), "Jy": np.ones(1), "Jz": np.ones(1), "h": np.array([field])}


def without_field() -> dict[str, float]:
    """Energy, gap and flux at h = 0."""
    ground = qp.equilibrate(brick_wall(), couplings(0.0))
    return {"energy": float(ground.energy), "gap": float(ground.gap), "flux": float(ground.state.expect(flux()))}


def in_field(field: float) -> dict[str, Any]:
    """Flux, gap, and the gradient of the flux by all four couplings (linear response)."""
    out = qp.linear_response(brick_wall(), couplings(field), qp.ObservableCost(flux()))
    grad = {name: float(value[0]) for name, value in out.grad.items()}
    return {"field": field, "flux": float(out.loss), "gap": float(out.free.gap), "grad": grad}


def draw(results: dict[str, Any], path: Path) -> None:
    """Flux and its gradient against the field."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = results["in a field"]
    fields = [point["field"] for point in points]
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.plot(fields, [point["flux"] for point in points], "o-")
    left.plot(fields, [point["gap"] for point in points], "s--", label="gap")
    left.lines[0].set_label(r"flux $\langle W\rangle$")
    left.set(xlabel="field h")
    left.legend()
    for name in ("Jx", "Jy", "Jz", "h"):
        right.plot(
            fields,
            [point["grad"][name] for point in points],
            "o-",
            label=rf"$\partial\langle W\rangle/\partial {name}$",
        )
    right.set(xlabel="field h", ylabel="gradient of the flux")
    right.legend()
    fig.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Run, compare with the published and the stored numbers or store them, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no field; compared with results.json")
    quick = parser.parse_args(arguments).quick
    results: dict[str, Any] = {"no field": without_field()}
    print("  ".join(f"{name} {value:.10f}" for name, value in results["no field"].items()))
    errors = (
        results["no field"]["energy"] - PUBLISHED["energy"],
        results["no field"]["energy"] + results["no field"]["gap"] - PUBLISHED["first excited"],
    )
    print(f"difference from the published levels: {errors[0]:.1e}, {errors[1]:.1e}")
    stored = HERE / "results.json"
    if quick:
        known = json.loads(stored.read_text())["no field"]
        worst = max(abs(known[name] - value) for name, value in results["no field"].items())
        print(f"largest difference from the stored numbers: {worst:.1e}")
        if worst > 1e-8:
            raise SystemExit("The numbers differ from results.json.")
        return
    results["in a field"] = [in_field(field) for field in FIELDS]
    for point in results["in a field"]:
        print(point)
    stored.write_text(json.dumps(results, indent=1) + "\n")
    draw(results, HERE / "kitaev_honeycomb.png")


if __name__ == "__main__":
    main()
