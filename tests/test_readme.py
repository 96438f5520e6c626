"""The README is executed: every Python block runs, and what it prints is what the README shows."""

from pathlib import Path

import pytest

from .shown import local_links, run_document, shown_is_printed

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_python_blocks_print_what_is_shown():
    pytest.importorskip("sklearn")
    ran, compared = run_document(README)
    assert (ran, compared) == (5, 5)


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
    targets = local_links(README)
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []
