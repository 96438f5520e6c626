"""A convolutional network in discrete time: its nudged updates are those of backpropagation through time, and it learns."""

import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import (
    Convolution,
    DiscreteTime,
    EnergySystem,
    StateCost,
    backpropagation_through_time,
    nudged_updates,
)
from qeqprop.classical.rules import half_squared_error

LINK = Convolution(0, 1, pooling="average")
MAPS, OUTPUTS = 4 * 4 * 4, 10
SHAPES = {"kernels": (4, 1, 3, 3), "bias": (4, 1, 1), "weights": (MAPS, OUTPUTS)}


def energy(p, s, x):
    """Images - four maps of half the size, rho = tanh - linear outputs: s is all maps, then the outputs."""
    maps, outputs = jnp.tanh(s[:MAPS]), s[MAPS:]
    field = LINK.send(p["kernels"], x[None])[0] + p["bias"]
    return s @ s / 2 - field.ravel() @ maps - (maps @ p["weights"]) @ outputs


NETWORK = EnergySystem(energy, (MAPS + OUTPUTS,), SHAPES, inputs=(1, 8, 8))
COST = StateCost(half_squared_error, range(MAPS, MAPS + OUTPUTS))


def start(seed):
    rng = np.random.default_rng(seed)
    kernels, weights = 0.4 * rng.normal(size=SHAPES["kernels"]), 0.04 * rng.normal(size=SHAPES["weights"])
    return {"kernels": kernels, "bias": np.zeros(SHAPES["bias"]), "weights": weights}


def digits(n):
    images, labels = load_digits(return_X_y=True)
    images = (images - images.mean(axis=0)).reshape(-1, 1, 8, 8) / 4
    order = np.random.default_rng(0).permutation(len(labels))[:n]
    return images[order], np.eye(10)[labels[order]]


def test_updates_are_gradients_of_backpropagation_through_time():
    (image,), (target,) = digits(1)
    problem, time = (NETWORK, start(0), COST, target), {"dt": 0.5, "steps": 20, "inputs": image}
    gradients = backpropagation_through_time(*problem, **time, free_steps=300)
    updates = nudged_updates(*problem, **time, scheme=qp.centered(1e-5))
    assert gradients.residual < 1e-12
    assert updates.deviation(gradients) < 1e-8
    assert min(np.abs(rates[-1]).max() for rates in gradients.gradient.values()) > 1e-3


def test_it_learns_digits():
    inputs, targets = digits(700)
    solver = DiscreteTime(dt=0.5, free_steps=20, nudged_steps=8, tolerance=0.3, truncation=1.0)
    history = qp.fit(
        NETWORK, start(0), COST, (inputs[:400], targets[:400]), solver=solver, scheme=qp.centered(0.3),
        optimizer=optax.adam(0.02), epochs=4, batch_size=20, validation=(inputs[400:], targets[400:]), metric=qp.accuracy,
        progress=False,
    )  # fmt: skip
    assert history.metric[-1] > 0.8
