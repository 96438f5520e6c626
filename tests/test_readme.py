"""The README is executed: every Python block runs, and what it prints is what the README shows."""

import contextlib
import io
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
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
    """Line by line; a line `...` in the README stands for any number of lines."""
    pattern, lines = shown.rstrip("\n").split("\n"), printed.rstrip("\n").split("\n")
    if "..." not in pattern:
        return len(pattern) == len(lines) and all(map(same, pattern, lines))
    cut = pattern.index("...")
    head, tail = pattern[:cut], pattern[cut + 1 :]
    ends = [*zip(head, lines, strict=False), *zip(tail, lines[len(lines) - len(tail) :], strict=True)]
    return len(lines) >= len(head) + len(tail) and all(same(a, b) for a, b in ends)


def test_python_blocks_print_what_is_shown():
    pytest.importorskip("sklearn")
    found = blocks(README.read_text(encoding="utf-8"))
    namespace: dict[str, object] = {}
    compared = 0
    for (language, code), following in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), namespace)
        if following[0] == "text":
            assert shown_is_printed(following[1], printed.getvalue()), (
                f"README shows\n{following[1]}\nbut\n{printed.getvalue()}"
            )
            compared += 1
        else:
            assert not printed.getvalue()
    assert compared == 5


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("loss = 0.56754", "loss = 0.56754", True),
        ("loss = 0.56754", "loss = 0.56854", False),
        ("loss = 0.56754", "cost = 0.56754", False),
        ("residual 2.8e-09", "residual 1.1e-09", True),
        ("residual 2.8e-09", "residual 1.1e-06", False),
        ("a\n...\nz 1", "a\nb\nc\nz 1", True),
        ("a\n...\nz 1", "a\nb\nc\nz 2", False),
        ("a", "a\nb", False),
    ],
)
def test_comparison_can_fail(shown: str, printed: str, expected: bool):
    assert shown_is_printed(shown, printed) == expected


def test_commands_of_a_fresh_machine():
    lines = README.read_text(encoding="utf-8").splitlines()
    start = 'python3 -m venv .venv && .venv/bin/pip install -e ".[{}]" -c constraints.txt && .venv/bin/{}'
    assert start.format("data", "qeqprop demo") in lines
    tests = [line for line in lines if 'pip install -e ".[test]"' in line]
    assert tests[0] == start.format("test", "pytest")


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []
