"""The command `qeqprop`: demo, train, check, scan, status, info.

Exit codes: 0 all is well; 1 it ran, but a check disagreed, a goal was missed or points failed; 2 wrong usage; 3 refused,
with the reason in one line on stderr (a degenerate ground state, too little memory, a bad value, a missing package or file).
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

from . import __version__
from .commands import MISSED, OK, REFUSED, check, demo, info, scan, status, train

COMMANDS = {"demo": demo, "train": train, "check": check, "scan": scan, "status": status, "info": info}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: that of the process) and return the exit code."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed its message (or the help)
        return int(stop.code or 0)
    try:
        with warnings.catch_warnings():
            _print_warnings_in_one_line()
            return args.run(args)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except Exception as error:
        if args.debug or not isinstance(error, _refusals()):
            raise
        return _complain(_one_line(error), REFUSED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qeqprop",
        description="Equilibrium propagation in quantum systems: gradients that know how wrong they are.",
        epilog=f"Exit codes: {OK} well, {MISSED} a check disagreed or a goal was missed, 2 usage, {REFUSED} refused.",
    )
    parser.add_argument("--version", action="version", version=f"qeqprop {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary, _, rest = (module.__doc__ or "").partition("\n")
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=rest.strip("\n") or None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _refusals() -> tuple[type[Exception], ...]:
    """Errors that tell the user something; any other is a bug and keeps its traceback."""
    from .core.precision import PrecisionError
    from .core.status import EquilibriumError

    return (EquilibriumError, PrecisionError, MemoryError, ValueError, TypeError, ImportError, OSError)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _print_warnings_in_one_line() -> None:
    from .core.status import AccuracyWarning, NudgeWarning

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"qeqprop: warning: {message}", file=sys.stderr)

    warnings.simplefilter("always", NudgeWarning)
    warnings.simplefilter("always", AccuracyWarning)
    warnings.showwarning = show


def _complain(message: str, code: int) -> int:
    print(f"qeqprop: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
