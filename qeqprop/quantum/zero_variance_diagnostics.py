"""How far a response from samples can be trusted: fits, ansatz, chains, and what to do where they are poor."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.estimate import Estimate
from ..core.status import Status
from .zero_variance import Sampled
from .zero_variance_crossfit import CrossFit

POOR_V_SCORE = 2e-4
"""Above it the bias of the ansatz is larger than the statistical error: 95 % intervals were seen to cover 48 to 70 %."""
POOR_FIT = 0.9
LARGE_SYSTEMATIC = 2.0


def v_score(fitted: CrossFit) -> tuple[float, float]:
    """n Var(H)/(E - Tr H/2^n)^2 (D. Wu et al., Science 386, 296 (2024)), and Var(H)."""
    ansatz, table = fitted.ansatz, fitted.ansatz.table
    local = [values[:, -1] for values in fitted.local()]
    energy = float(np.mean([w @ e for w, e in zip(fitted.weights, local, strict=True)]))
    variance = float(np.mean([w @ (e - energy) ** 2 for w, e in zip(fitted.weights, local, strict=True)]))
    identities = np.all(table.sites[: table.n_diagonal] == table.n_sites, axis=1)
    constant = float(np.asarray(ansatz.hamiltonian)[: table.n_diagonal][identities].sum())
    return table.n_sites * variance / max((energy - constant) ** 2, 1e-300), variance


def explained(fitted: CrossFit) -> tuple[np.ndarray, np.ndarray]:
    """Variances of the local values of all observables, and what the fits of the other half leave of them."""
    return _variances(fitted, fitted.local()), _variances(fitted, fitted.reduced())


def _variances(fitted: CrossFit, values: list[np.ndarray]) -> np.ndarray:
    return np.mean([w @ (v - w @ v) ** 2 for w, v in zip(map(np.asarray, fitted.weights), values, strict=True)], axis=0)


def r_squared(total: Any, left: Any) -> float:
    """1 - left/total of summed variances; 1 where there is nothing to explain."""
    return 1.0 - float(np.sum(left) / np.sum(total)) if np.sum(total) > 1e-24 else 1.0


def mixing(fitted: CrossFit, values: list[np.ndarray]) -> tuple[float, float]:
    """The largest R-hat and correlation time (in samples) among the columns of (N, K) values, over the blocks.

    A. Gelman, D. Rubin, Statist. Sci. 7, 457 (1992). Below about 20 samples a block R-hat is above 1 by chance.
    """
    parts = np.stack([np.asarray(v).reshape(fitted.blocks, -1, v.shape[1]) for v in values])
    length = parts.shape[2]
    within = parts.var(axis=2, ddof=1).mean(axis=(0, 1))
    between = parts.mean(axis=2).var(axis=1, ddof=1).mean(axis=0)
    total = within * (length - 1) / length + between
    moving = total > 1e-24
    if not np.any(moving):
        return 1.0, 0.0
    r_hat = np.sqrt((length - 1) / length + between[moving] / np.maximum(within[moving], 1e-300))
    tau = 0.5 * (length * between[moving] / total[moving] - 1)
    return float(r_hat.max()), max(float(tau.max()), 0.0)


def diagnose(
    fitted: CrossFit, sampled: list[Sampled], cost: int, grad: Estimate, groups: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The statistics of a response; `systematic` is still an array like `grad.mean`.

    `groups`: how many of the forces, in their order, belong to each parameter; the fits of each are judged by themselves,
    too (`r2_by_parameter`): an ansatz may hold the response to couplings, and not the response to fields.
    """
    score, variance = v_score(fitted)
    total, left = explained(fitted)
    n_forces = grad.mean.shape[0]
    systematic = np.mean([np.asarray(part.third_order) for part in sampled], axis=0)
    n_params = fitted.feats[0].gradients.shape[1]
    moved = fitted.allowed(cost, n_forces)
    r2_cost, r2_forces = r_squared(total[cost], left[cost]), r_squared(total[:n_forces][moved], left[:n_forces][moved])
    stats = {
        "v_score": score,
        "energy_variance": variance,
        "r2_cost": r2_cost,
        "r2_forces": r2_forces,
        "relative_error": _ratio(grad.stderr, grad.mean),
        "systematic_ratio": _ratio(systematic, grad.mean),
        "systematic": systematic,
        "samples": fitted.n_samples,
        "samples_per_parameter": fitted.n_samples / n_params,
    }
    if groups:
        ends = np.cumsum(list(groups.values()))
        parts = zip(groups, np.split(total[:n_forces], ends[:-1]), np.split(left[:n_forces], ends[:-1]), strict=True)
        stats["r2_by_parameter"] = {name: r_squared(all_of, left_of) for name, all_of, left_of in parts}
    if fitted.blocks:
        costs = [values[:, [cost]] for values in fitted.local()]
        stats["blocks"] = 2 * fitted.blocks
        stats["cost_r_hat"], stats["cost_tau"] = mixing(fitted, costs)
        stats["worst_r_hat"], stats["worst_tau"] = mixing(fitted, [np.asarray(part.response) for part in sampled])
        stats["plain_agreement"] = _agreement(fitted, sampled)
        plain = fitted.estimate([part.plain for part in sampled])
        stats["plain_variance_ratio"] = _ratio(plain.stderr, grad.stderr) ** 2
    return stats


def _ratio(part: np.ndarray, whole: np.ndarray) -> float:
    norm = float(np.linalg.norm(whole))
    return float(np.linalg.norm(part)) / norm if norm else 0.0


def _agreement(fitted: CrossFit, sampled: list[Sampled]) -> float:
    """Root mean square, over the components, of the difference from the plain estimate in its standard errors."""
    off = fitted.estimate([part.response - part.plain for part in sampled])
    known = off.stderr > 1e-12 * max(float(np.max(off.stderr, initial=0.0)), 1e-300)
    return float(np.sqrt(np.mean((off.mean[known] / off.stderr[known]) ** 2))) if np.any(known) else 0.0


def judge(stats: dict[str, Any], grad: Estimate) -> tuple[Status, str]:
    """The status of a response, and advice where it is not `OK`."""
    numbers = [np.asarray(grad.mean), np.asarray(grad.stderr), np.asarray(stats["v_score"])]
    if not all(np.all(np.isfinite(number)) for number in numbers):
        return Status.NOT_FINITE, Status.NOT_FINITE.message
    advice = []
    if stats["v_score"] > POOR_V_SCORE:
        advice.append(
            f"V-score {stats['v_score']:.1e}: relax further or enlarge the ansatz; these error bars are not 95 % intervals."
        )
    for name, what in (("r2_cost", "the cost"), ("r2_forces", "the forces")):
        if stats[name] < POOR_FIT:
            apart = stats.get("r2_by_parameter", {}) if name == "r2_forces" else {}
            each = f" ({', '.join(f'{group} {r2:.2f}' for group, r2 in apart.items())})" if len(apart) > 1 else ""
            advice.append(
                f"Held-out R^2 of {what} {stats[name]:.2f}{each}: take more samples than parameters, or an ansatz whose "
                "tangent space holds the response."
            )
    error = float(np.linalg.norm(grad.stderr))
    if error and np.linalg.norm(stats["systematic"]) > LARGE_SYSTEMATIC * error:
        advice.append("The ansatz error (`systematic`) exceeds twice the statistical one: more samples will not help.")
    return (Status.INACCURATE if advice else Status.OK), " ".join(advice)
