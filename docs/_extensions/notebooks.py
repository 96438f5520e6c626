"""The stored notebooks as pages: copied beside the other pages, where Sphinx looks for them, and never executed here."""

import os
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


def collect(app: Sphinx, config: Config) -> None:
    """Copy what has changed; a notebook that is gone goes here too."""
    source, copies = Path(app.srcdir).parent / "notebooks", Path(app.srcdir) / "notebooks"
    copies.mkdir(exist_ok=True)
    stored = {path.name: path.read_bytes() for path in source.glob("*.ipynb")}
    for name, content in stored.items():
        copy = copies / name
        if not copy.exists() or copy.read_bytes() != content:
            part = copy.with_suffix(f".{os.getpid()}")  # at once: another build may be reading
            part.write_bytes(content)
            part.replace(copy)
    for copy in copies.glob("*.ipynb"):
        if copy.name not in stored:
            copy.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", collect)
    return {"parallel_read_safe": True}
