"""Checkpoints of a training: one file, replaced as the training goes on, from which the same numbers follow."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EVERY = 10.0
"""Seconds between two writes; a kill costs the steps since the last one, and they are repeated to the bit."""


class Checkpoint:
    """The file `checkpoint.npz` in a training's folder.

    Args:
        folder: of the training.
        identity: what must be the same for the training to go on: name -> number, text or hash.
        resume: go on from the file where there is one.

    Raises:
        FileExistsError: there is a file, but `resume` is False: nothing is overwritten.
        ValueError: the file belongs to another training. StorageError: it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: dict[str, Any], *, resume: bool):
        from ..storage import load

        self.path, self.identity = Path(folder) / "checkpoint.npz", identity
        self.found: dict[str, Any] | None = None
        self._written = time.monotonic()
        if not self.path.exists():
            return
        if not resume:
            raise FileExistsError(
                f"{self.path}: there is a checkpoint of a training. Pass resume=True (on the command line --resume) to go on "
                "with it, or another folder."
            )
        self.found = load(self.path)
        other = [name for name, value in identity.items() if self.found["identity"].get(name) != value]
        if other:
            has = [f"{name} = {known}" for name in other if len(known := str(self.found["identity"].get(name))) < 60]
            raise ValueError(
                f"{self.path}: this is the checkpoint of another training, which differs in: {', '.join(other)}."
                + (f" It has {', '.join(has)}." if has else "")
            )

    def keep(self, content: Callable[[], dict[str, Any]], *, now: bool = False) -> None:
        """Write `content()` where the last write is long ago, or `now`."""
        from ..storage import save

        if now or time.monotonic() - self._written > EVERY:
            save(self.path, {"identity": self.identity, **content()})
            self._written = time.monotonic()


def digest(*arrays: Any) -> str:
    """A hash of arrays (or None), by which data and parameters are recognised."""
    sha = hashlib.sha256()
    for array in arrays:
        value = np.asarray(np.nan if array is None else array)
        sha.update(f"{value.dtype} {value.shape}".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()
