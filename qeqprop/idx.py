"""Files of the IDX format, in which MNIST and its relatives are published; read with or without gzip.

Two zero bytes, a byte that names the type of the numbers, one that counts the axes, the length of every axis as a big-endian
32-bit integer, the numbers. Only unsigned bytes (type 8) are read, as all of these data sets have them.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

UNSIGNED_BYTE = 8


def read_idx(path: Path, n_axes: int) -> np.ndarray:
    """The array in a file, uint8. A name that ends in .gz is unpacked.

    Args:
        path: of the file.
        n_axes: number of axes that it must have: 1 for labels, 3 for images.

    Raises:
        ValueError: a file of another kind, or one that is cut short.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels"
        ...     written = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9]))
        ...     print(read_idx(path, 1))
        [7 0 9]
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"File {path} is damaged: {error}.") from error
    begin = 4 + 4 * n_axes
    if len(content) < begin or content[:4] != bytes([0, 0, UNSIGNED_BYTE, n_axes]):
        raise ValueError(f"File {path} must be an IDX file of unsigned bytes with {n_axes} axes, but is not.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", n_axes, 4))
    if len(content) - begin != math.prod(shape):
        raise ValueError(
            f"File {path} announces {' x '.join(map(str, shape))} bytes, but holds {len(content) - begin}."
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)
