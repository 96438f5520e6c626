"""The commands of `qeqprop`, one a file: `add_arguments(parser)` and `run(args) -> exit code`.

The first line of a command's docstring is its help. Nothing heavy is imported before a command runs.
"""

OK, MISSED, REFUSED = 0, 1, 3
"""Exit codes; 2 is argparse's own, for wrong usage."""
