"""The phase sensor of Wanjura & Marquardt trained with shots: see the README beside this file.

python studies/phase_sensor_shots/phase_sensor_shots.py            # some minutes
python studies/phase_sensor_shots/phase_sensor_shots.py --quick    # the first steps, compared with the stored ones
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import qeqprop as qp
from qeqprop.tasks import phases_task

HERE = Path(__file__).parent
SHOTS = (2, 10, 100, 1000)
BETA, EPOCHS, SEED = 0.4, 3, 0
TASK = phases_task()
EXACT = qp.ExactDiagonalization()


def settings() -> list[str]:
    """Nine settings for all products of two of four sites: an orthogonal array of strength 2.

    Sensors in bases a and b, the two sites of the ring that they touch in a + b and a + 2 b (mod 3): every pair of
    sites meets in all nine combinations. The greedy grouping finds fifteen.
    """
    ring = TASK.system.n_sites - 2
    bases = []
    for a in range(3):
        for b in range(3):
            letters = ["I"] * TASK.system.n_sites
            for site, letter in zip((ring, ring + 1, 0, ring // 2), (a, b, a + b, a + 2 * b), strict=True):
                letters[site] = "XYZ"[letter % 3]
            bases.append("".join(letters))
    return bases


def solver_of(shots: int | None) -> Any:
    """The solver of a training; None is exact."""
    return EXACT if shots is None else qp.Measured(EXACT, shots=shots, bases=settings())


def train(shots: int | None, *, beta: float = BETA, steps: int | None = None) -> dict[str, Any]:
    """Train as the task does (Adam, cosine schedule, clipped gradients), and measure the accuracy on fresh rings."""
    data, batch = TASK.make_data(SEED), TASK.batch_size
    samples = len(data.train_inputs) if steps is None else steps * batch
    n_steps = EPOCHS * -(-len(data.train_inputs) // batch)
    history = qp.fit(
        TASK.system,
        TASK.make_params(SEED),
        TASK.nudge,
        (data.train_inputs[:samples], data.train_targets[:samples]),
        solver=solver_of(shots),
        scheme=qp.centered(beta),
        optimizer=TASK.optimizer(n_steps),
        epochs=EPOCHS if steps is None else 1,
        batch_size=batch,
        tolerate=TASK.tolerate,
        seed=SEED,
        progress=False,
    )
    out = {"shots": shots, "beta": beta, "loss": [round(float(value), 6) for value in history.loss]}
    if steps is None:
        shown = {} if shots is None else {"solver": solver_of(shots), "key": 1}
        for name, options in (("accuracy", {}), ("accuracy with shots", shown)):
            outputs = qp.predict(TASK.system, history.params, TASK.nudge, data.test_inputs, **options)
            out[name] = qp.accuracy(outputs, data.test_targets)
    return out


def table(results: list[dict[str, Any]]) -> str:
    """One line a training."""
    lines = []
    for row in results:
        name = "exact" if row["shots"] is None else f"{row['shots']} shots"
        last = np.mean(row["loss"][-100:])
        lines.append(
            f"{name:>10}  beta {row['beta']:<7g} loss of the last epoch {last:.3f}  accuracy {100 * row['accuracy']:.1f} %"
            f"  read with the same shots {100 * row['accuracy with shots']:.1f} %"
        )
    return "\n".join(lines)


def draw(results: list[dict[str, Any]]) -> None:
    """The figure beside the README."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = [f"exact, beta {row['beta']:g}" if row["shots"] is None else f"{row['shots']} shots" for row in results]
    for row, name in zip(results, names, strict=True):
        smooth = np.convolve(row["loss"], np.ones(20) / 20, mode="valid")
        left.plot(np.arange(len(smooth)) + 20, smooth, label=name)
    left.set(xlabel="step", ylabel="loss of the batch, mean of 20 steps", title="training")
    left.legend()
    for key, mark, label in (("accuracy", "o", "many shots"), ("accuracy with shots", "x", "shots as trained")):
        right.plot([100 * row[key] for row in results], mark, ms=8, label=f"read with {label}")
    right.set_xticks(range(len(results)), [name.replace(" shots", "\nshots").replace(", ", "\n") for name in names])
    right.set_ylim(90, 100.5)
    right.set(ylabel="accuracy on 200 fresh rings (%)", title="three phases (chance: 33 %)")
    right.legend(loc="lower left")
    figure.savefig(HERE / "phase_sensor_shots.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first steps, compared with the stored results")
    if parser.parse_args().quick:
        stored = json.loads((HERE / "results.json").read_text())["first steps"]
        first = train(100, steps=3)
        assert np.allclose(first["loss"], stored["loss"], rtol=1e-4), (first, stored)
        print("The quick form agrees with the stored results.")
        return
    trainings = [train(None, beta=1e-4), train(None), *(train(shots) for shots in reversed(SHOTS))]
    results = {"first steps": train(100, steps=3), "trainings": trainings}
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(trainings)
    print(table(trainings))


if __name__ == "__main__":
    main()
