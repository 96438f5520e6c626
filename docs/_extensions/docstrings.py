"""Docstrings are plain text that reads well at the prompt; here they become reStructuredText.

`name` is code, $formula$ and `.. math::` are formulas, an indented paragraph is a listing, and stars, bars and underscores
are themselves.
"""

import re
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"(Args|Attributes|Examples?|Notes?|Raises|References?|Returns|Sources?|Warns|Yields):$")
MARKED = re.compile(r"(?P<code>`+(?P<name>.+?)`+)|\$(?P<formula>[^$]+)\$|(?P<special>[*|_\\])")


def marked_up(match: re.Match[str]) -> str:
    if match["code"]:
        glued = match.start() and not re.match(r"[\s(\[{]", match.string[match.start() - 1])
        followed = re.match(r"\w", match.string[match.end() :])  # the plural of a name
        return ("\\ " if glued else "") + f"``{match['name']}``" + ("\\ " if followed else "")
    return f":math:`{match['formula']}`" if match["formula"] else "\\" + match["special"]


def escaped(text: str) -> str:
    """Text in which only code and formulas are marked up."""
    return MARKED.sub(marked_up, text)


def as_restructured_text(lines: list[str]) -> list[str]:
    """The docstring with its formulas as literal blocks and everything else escaped."""
    out: list[str] = []
    section, listing, table = "", False, False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line and indent == 0:
            section, listing = (line if SECTION.match(line) else ""), False
        starts = bool(line) and (number == 0 or not lines[number - 1])
        table = bool(line) and (table or (starts and line.startswith("| ")))
        if table:
            out += [*(["::", ""] if starts else []), f"   {line}"]
            continue
        if starts and not section and not listing and indent >= 2 and not line.lstrip().startswith(("- ", ">>>")):
            out += ["::", ""]
            listing = True
        listing = listing or line.lstrip().startswith(".. math::")
        verbatim = listing or section.startswith("Example") or line.lstrip().startswith(">>>")
        out.append(line if verbatim else escaped(line))
    return out


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # an empty comment first: Napoleon takes what stands before a colon in the first line for a type
    head = ["..", ""] if what in ("property", "attribute", "data") else []
    lines[:] = [*head, *as_restructured_text(lines)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", process, priority=100)  # before Napoleon, which reads the sections
    return {"parallel_read_safe": True}
