"""Spin models of the literature as `SpinNetwork`s: cluster-Ising, XXZ and Heisenberg, Kitaev honeycomb, phase sensor."""

from collections.abc import Sequence
from typing import Any

from ..core.graph import check_count, check_edges
from ..core.nudge import ExpectationCost, squared_error
from .pauli import PauliSum, X, Y, Z, projector
from .spins import SpinNetwork


def heisenberg(n_sites: int, edges: Any) -> SpinNetwork:
    """H = sum_(ij) J_ij (X_i X_j + Y_i Y_j + Z_i Z_j); positive J is antiferromagnetic. Parameters: J (n_edges,).

    Example:
        >>> import qeqprop as qp
        >>> dimer = qp.quantum.heisenberg(2, [(0, 1)])
        >>> print(round(float(qp.equilibrate(dimer, {"J": [1.0]}).energy), 9))  # the singlet
        -3.0
    """
    return SpinNetwork(n_sites, {"J": [_exchange(i, j, "XYZ") for i, j in check_edges(edges, n_sites)]})


def xxz(n_sites: int, edges: Any) -> SpinNetwork:
    """H = sum_(ij) Jxy_ij (X_i X_j + Y_i Y_j) + Jz_ij Z_i Z_j - sum_i h_i Z_i.

    Parameters: Jxy and Jz (n_edges,), h (n_sites,).

    Example:
        >>> import qeqprop as qp
        >>> qp.quantum.xxz(3, [(0, 1), (1, 2)])
        SpinNetwork(3 spins, parameters Jxy (2,), Jz (2,), h (3,))
    """
    pairs = check_edges(edges, n_sites)
    return SpinNetwork(
        n_sites,
        {
            "Jxy": [_exchange(i, j, "XY") for i, j in pairs],
            "Jz": [_exchange(i, j, "Z") for i, j in pairs],
            "h": [-Z(i) for i in range(n_sites)],
        },
    )


def _exchange(i: int, j: int, letters: str) -> PauliSum:
    return sum((pauli(i) * pauli(j) for pauli, name in ((X, "X"), (Y, "Y"), (Z, "Z")) if name in letters), PauliSum({}))


def kitaev_honeycomb(n_columns: int, n_rows: int) -> SpinNetwork:
    """Kitaev's honeycomb model on a torus of n_columns x n_rows unit cells (2 sites each; Kitaev 2006, eq. 4):

        H = -sum_(x bonds) Jx XX - sum_(y bonds) Jy YY - sum_(z bonds) Jz ZZ.

    Site 2c is the A site of cell c = row * n_columns + column, 2c + 1 its B site. z bonds lie within a cell; x bonds
    lead from A to the B site of the previous column, y bonds to that of the previous row.
    Parameters: Jx, Jy, Jz, each (n_columns * n_rows,).

    Example:
        >>> import qeqprop as qp
        >>> qp.quantum.kitaev_honeycomb(2, 3)
        SpinNetwork(12 spins, parameters Jx (6,), Jy (6,), Jz (6,))
    """
    columns, rows = check_count(n_columns, "n_columns"), check_count(n_rows, "n_rows")
    bonds: dict[str, list[PauliSum]] = {"Jx": [], "Jy": [], "Jz": []}
    for row in range(rows):
        for column in range(columns):
            a = 2 * (row * columns + column)
            left = 2 * (row * columns + (column - 1) % columns) + 1
            below = 2 * ((row - 1) % rows * columns + column) + 1
            for name, pauli, b in (("Jx", X, left), ("Jy", Y, below), ("Jz", Z, a + 1)):
                bonds[name].append(-(pauli(a) * pauli(b)))
    return SpinNetwork(2 * columns * rows, bonds)


def cluster_ising_terms(n_sites: int, *, periodic: bool = True) -> dict[str, PauliSum]:
    """The three sums of the cluster-Ising chain: {"ZXZ": sum Z X Z, "ZZ": -sum Z Z, "X": -sum X}."""
    n = check_count(n_sites, "n_sites", 3)
    ends = {"ZXZ": n if periodic else n - 2, "ZZ": n if periodic else n - 1, "X": n}
    zero = PauliSum({})
    return {
        "ZXZ": sum((Z(i) * X((i + 1) % n) * Z((i + 2) % n) for i in range(ends["ZXZ"])), zero),
        "ZZ": -sum((Z(i) * Z((i + 1) % n) for i in range(ends["ZZ"])), zero),
        "X": -sum((X(i) for i in range(n)), zero),
    }


def cluster_ising(n_sites: int, *, periodic: bool = True) -> SpinNetwork:
    """H = g_ZXZ sum Z X Z - g_ZZ sum Z Z - g_X sum X (uniform). Parameters: g_ZXZ, g_ZZ, g_X, each (1,).

    Example:
        >>> import qeqprop as qp
        >>> ring = qp.quantum.cluster_ising(4)
        >>> print(round(float(qp.equilibrate(ring, {"g_ZXZ": [0.0], "g_ZZ": [0.0], "g_X": [1.0]}).energy), 9))
        -4.0
    """
    terms = cluster_ising_terms(n_sites, periodic=periodic)
    return SpinNetwork(n_sites, {f"g_{name}": [term] for name, term in terms.items()})


def phase_sensor(n_system: int = 4, *, coupling: str = "full", sites: Sequence[int] | None = None) -> SpinNetwork:
    """Two sensor qubits coupled to a cluster-Ising ring whose phase they learn to tell (Wanjura & Marquardt 2025).

    The ring is sites 0 .. n_system - 1, the sensors are the last two. The inputs are the ring's couplings
    (g_ZXZ, g_ZZ, g_X). Each sensor couples to two sites of the ring.

    Args:
        n_system: sites of the ring.
        coupling: "full" (all nine Pauli products a pair, 51 parameters in all) or "Z" (the sensors see only Z of the
            ring, three products a pair: the negative control).
        sites: the two sites of the ring that the sensors touch; None takes 0 and 1.

    Parameters: "coupling" (36,) or (12,), "field" (6,) and "sensor" (9,): the sensors' fields and mutual couplings.

    Example:
        >>> import qeqprop as qp
        >>> qp.quantum.phase_sensor(4, coupling="Z")
        SpinNetwork(6 spins, parameters coupling (12,), field (6,), sensor (9,), 3 inputs)
    """
    if coupling not in ("full", "Z"):
        raise ValueError(f"Argument `coupling` must be 'full' or 'Z', but is {coupling!r}.")
    touched = (0, 1) if sites is None else tuple(check_count(site, "sites", 0) for site in sites)
    if len(touched) != 2 or len(set(touched)) != 2 or max(touched) >= n_system:
        raise ValueError(f"Argument `sites` must be two sites of the ring (0 to {n_system - 1}), but is {touched}.")
    sensors, paulis = (n_system, n_system + 1), (X, Y, Z)
    seen = paulis if coupling == "full" else (Z,)
    return SpinNetwork(
        n_system + 2,
        {
            "coupling": [p(s) * q(i) for s in sensors for i in touched for p in paulis for q in seen],
            "field": [p(s) for s in sensors for p in paulis],
            "sensor": [p(sensors[0]) * q(sensors[1]) for p in paulis for q in paulis],
        },
        inputs=list(cluster_ising_terms(n_system).values()),
    )


def phase_sensor_cost(n_system: int = 4) -> ExpectationCost:
    """L = sum_k (<P_k> - y_k)^2 with P_k the projectors on the sensors' (Z, Z) outcomes (+,+), (+,-), (-,+).

    Example:
        >>> import qeqprop as qp
        >>> qp.quantum.phase_sensor_cost(4).observables[0]
        0.25 * I + 0.25 * Z4 + 0.25 * Z5 + 0.25 * Z4 Z5
    """
    sensors = (n_system, n_system + 1)
    outcomes = [(+1, +1), (+1, -1), (-1, +1)]
    return ExpectationCost([projector(sensors, outcome) for outcome in outcomes], squared_error)
