"""What a document shows is what its code prints: Markdown files executed block by block."""

import contextlib
import io
import math
import re
from pathlib import Path

NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
NOISE = 1e-5  # smaller numbers are errors: of them the order of magnitude is compared


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of the fenced blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def same(shown: str, printed: str) -> bool:
    """Equal words; numbers equal to four digits, or to a factor of 30 where they are tiny."""
    words = [(NUMBER.sub("#", line).split(), NUMBER.findall(line)) for line in (shown, printed)]
    if words[0][0] != words[1][0] or len(words[0][1]) != len(words[1][1]):
        return False
    for a, b in zip(*(map(float, numbers) for _, numbers in words), strict=True):
        if max(abs(a), abs(b)) < NOISE:
            if (a == 0) != (b == 0) or (a and abs(math.log(abs(a / b))) > math.log(30)):
                return False
        elif not math.isclose(a, b, rel_tol=1e-4):
            return False
    return True


def shown_is_printed(shown: str, printed: str) -> bool:
    """Line by line; a line `...` in the document stands for any number of lines."""
    pattern, lines = shown.rstrip("\n").split("\n"), printed.rstrip("\n").split("\n")
    if "..." not in pattern:
        return len(pattern) == len(lines) and all(map(same, pattern, lines))
    cut = pattern.index("...")
    head, tail = pattern[:cut], pattern[cut + 1 :]
    ends = [*zip(head, lines, strict=False), *zip(tail, lines[len(lines) - len(tail) :], strict=True)]
    return len(lines) >= len(head) + len(tail) and all(same(a, b) for a, b in ends)


def run_document(path: Path) -> tuple[int, int]:
    """Run every `python` block of a document in one namespace, and compare what it prints with the `text` after it.

    Returns:
        How many blocks ran, and the output of how many was compared.
    """
    found = blocks(path.read_text(encoding="utf-8"))
    namespace: dict[str, object] = {"__name__": "__main__"}
    ran = compared = 0
    for (language, code), following in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, path.name, "exec"), namespace)
        ran += 1
        if following[0] == "text":
            expected = f"{path.name} shows\n{following[1]}\nbut\n{printed.getvalue()}"
            assert shown_is_printed(following[1], printed.getvalue()), expected
            compared += 1
        else:
            assert not printed.getvalue(), f"{path.name} does not show\n{printed.getvalue()}"
    return ran, compared


def local_links(path: Path) -> list[str]:
    """Targets of the links to files, anchors cut off."""
    return re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
