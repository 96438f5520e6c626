"""What a scan has on disk: a manifest, and one atomic file a point. Which points are done is a listing of a folder.

out/manifest.json             function, axes, seed, versions
out/points/<key>.npz          values of a finished point
out/points/<key>.failed.json  the error of a failed one
out/carry/<key>.npz           the equilibrium that a continuation goes on from
out/collected.npz             the outcomes of all points in one file, made from theirs (see `collected`)
out/scan.nc                   the table, made from the points

A point file appears by one rename, so that neither a killed process nor a reader meets half of one. It is on the disk itself
(fsync) at the latest half a second, or one point, later: that is what a power failure may cost. Files that it tears are found
by their checksums, put aside and run again.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..storage import StorageError, load, pack, save, sync_files, write_atomically
from .grid import Point

SCHEMA = 1
MISSING, DONE, FAILED = 0, 1, 2
"""Values of a point's `status`."""
SYNC_SECONDS = 0.5
"""Point files are brought to the disk together, at the latest after so long."""


class Outcome(NamedTuple):
    """What became of a point."""

    status: int
    values: Mapping[str, np.ndarray]
    seconds: float
    error: str = ""


Stamp = tuple[int, int, int]
"""Number, size and time of change of a file: of another file at the same place at least one is another."""


def stamp(known: os.stat_result) -> Stamp:
    """What tells a file from another at its place."""
    return known.st_ino, known.st_size, known.st_mtime_ns


def packed(point: Point, outcome: Outcome) -> bytes:
    """The content of a finished point's file."""
    return pack({"params": point.params, "values": dict(outcome.values), "seconds": outcome.seconds})


class Ledger:
    """The folder of a scan."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder).absolute()
        self.points, self.carries = self.folder / "points", self.folder / "carry"
        self._remembered: dict[str, tuple[Stamp, Outcome]] = {}
        self._unsynced: list[Path] = []
        self._synced = time.monotonic()

    def statuses(self) -> dict[str, int]:
        """key -> DONE or FAILED, of all points that have a file."""
        return {key: status for key, (status, _) in self._entries().items()}

    def files(self) -> dict[str, tuple[int, Stamp]]:
        """key -> status and what tells one file from another, of all points that have a file."""
        found = {}
        for key, (status, entry) in self._entries().items():
            with contextlib.suppress(FileNotFoundError):  # put aside in between
                found[key] = status, stamp(entry.stat())
        return found

    def _entries(self) -> dict[str, tuple[int, os.DirEntry[str]]]:
        found: dict[str, tuple[int, os.DirEntry[str]]] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.points) as entries:
            for entry in entries:
                key, _, kind = entry.name.partition(".")
                if kind == "npz":
                    found[key] = DONE, entry
                elif kind == "failed.json":
                    found.setdefault(key, (FAILED, entry))
        return found

    def status(self, point: Point) -> int:
        if self._done(point).exists():
            return DONE
        return FAILED if self._failed(point).exists() else MISSING

    def write(self, point: Point, outcome: Outcome) -> None:
        """Record a point; a success replaces a failure. Call `sync` after the last one."""
        if outcome.status == DONE:
            self._write(self._done(point), packed(point, outcome))
            self._failed(point).unlink(missing_ok=True)
        else:
            document = {"params": point.params, "error": outcome.error, "seconds": outcome.seconds}
            self._write(self._failed(point), json.dumps(document).encode())

    def _write(self, path: Path, data: bytes) -> None:
        self._unsynced.append(write_atomically(path, data, sync=False))
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Have all points written here on the disk itself."""
        if self._unsynced:
            sync_files([*self._unsynced, self.points])
        self._unsynced, self._synced = [], time.monotonic()

    def read(self, point: Point) -> Outcome:
        """A point's outcome; a file that cannot be read is put aside as `.bad`, and the point is missing."""
        try:
            if self._done(point).exists():
                content = load(self._done(point))
                values = {name: np.asarray(value) for name, value in content["values"].items()}
                return Outcome(DONE, values, float(content["seconds"]))
            if self._failed(point).exists():
                content = json.loads(self._failed(point).read_text())
                return Outcome(FAILED, {}, float(content["seconds"]), str(content["error"]))
        except (StorageError, ValueError, KeyError, TypeError, AttributeError):
            self._set_aside(point)
        return Outcome(MISSING, {}, np.nan)

    def remember(self, points: Iterable[Point]) -> None:
        """Read finished points now: who runs a scan has the time while its workers work."""
        for point in points:
            with contextlib.suppress(FileNotFoundError):
                path = self._done(point) if self._done(point).exists() else self._failed(point)
                self._remembered[point.key] = stamp(path.stat()), self.read(point)

    def recall(self, point: Point, of: Stamp) -> Outcome:
        """As `read`, without opening the file where it is the one that was remembered."""
        known, outcome = self._remembered.get(point.key, ((0, 0, 0), None))
        return outcome if outcome is not None and known == of else self.read(point)

    def _set_aside(self, point: Point) -> None:
        path = self._done(point) if self._done(point).exists() else self._failed(point)
        path.replace(path.with_name(path.name + ".bad"))

    def _done(self, point: Point) -> Path:
        return self.points / f"{point.key}.npz"

    def _failed(self, point: Point) -> Path:
        return self.points / f"{point.key}.failed.json"

    def save_carry(self, point: Point, equilibrium: Any) -> None:
        save(self.carries / f"{point.key}.npz", equilibrium)

    def load_carry(self, point: Point) -> Any | None:
        """The equilibrium kept of a point, None where there is none that can be read."""
        try:
            return load(self.carries / f"{point.key}.npz")
        except (FileNotFoundError, StorageError):
            return None

    def drop_carry(self, point: Point) -> None:
        (self.carries / f"{point.key}.npz").unlink(missing_ok=True)

    def read_manifest(self) -> dict[str, Any] | None:
        """The manifest, None of a new folder.

        Raises:
            StorageError: it is damaged, or of a newer schema.
        """
        path = self.folder / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            if manifest["format"] != "qeqprop scan":
                raise KeyError("format")
            if manifest["schema"] > SCHEMA:
                raise StorageError(f"{path}: written by a newer qeqprop (schema {manifest['schema']} > {SCHEMA}).")
            return manifest
        except FileNotFoundError:
            return None
        except StorageError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path}: not the manifest of a scan, or damaged ({error}).") from error

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        document = {"format": "qeqprop scan", "schema": SCHEMA, **manifest}
        write_atomically(self.folder / "manifest.json", (json.dumps(document, indent=2) + "\n").encode())

    def set_points_aside(self) -> Path:
        """Rename the folders of points and carries; nothing is deleted."""
        number = next(n for n in range(1, 10**6) if not (self.folder / f"points.{n}").exists())
        for path in (self.points, self.carries):
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_name(f"{path.name}.{number}"))
        return self.points.with_name(f"points.{number}")
