"""Compiled code that is never older than its source.

Numba keeps machine code on disk and checks that the file of a function is unchanged, but not the files of the functions
it calls: after an update in place the old code of a caller would run the old code of its callees. So the sources of all
kernels share one fingerprint, and the machine code goes where it does not match.
"""

import contextlib
import hashlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def drop_stale_code(folder: Path = FOLDER) -> bool:
    """Delete Numba's files in `folder/__pycache__` unless they belong to the present sources; True if they did not."""
    sources = (path.read_bytes() for path in sorted(folder.glob("*.py")))
    digest = hashlib.sha256(b"".join(source for source in sources if b"numba" in source)).hexdigest()
    cache = folder / "__pycache__"
    stamp = cache / "kernels.sha256"
    with contextlib.suppress(OSError):
        if stamp.read_text(encoding="ascii") == digest:
            return False
    with contextlib.suppress(
        OSError
    ):  # where nothing can be written, Numba keeps its files elsewhere, by time of change
        for path in (*cache.glob("*.nbi"), *cache.glob("*.nbc")):
            path.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(digest, encoding="ascii")
    return True
