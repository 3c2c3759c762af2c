"""The `steergraph` command: the table of its commands, and how every one of them ends.

    steergraph run --repo PATH|URL --issue FILE|-|TEXT|URL [--test CMD]
    steergraph ask "..." [--choices A B C]
    steergraph find --repo PATH|URL --issue FILE|-|TEXT|URL [--budget N]
    steergraph vectors extract|list|show
    steergraph bench swebench --dataset FILE|NAME --run-id ID
    steergraph eval --predictions FILE --dataset FILE --repos DIR [--executor docker]
    steergraph report RUN... [--grades DIR] [--dataset FILE] [--out DIR]
    steergraph lab sweep|switching --tasks MODULE:NAME --model MODEL --out DIR
    steergraph doctor

Exit codes: 0 a checked patch or an answer, 1 none found, 2 bad input, 130 interrupted (and resumable).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from steergraph.base.errors import InputError

EXIT_FOUND, EXIT_NONE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130

COMMANDS = (
    "steergraph.cli.run",
    "steergraph.cli.find",
    "steergraph.cli.vectors.extract",
    "steergraph.cli.eval",
    "steergraph.cli.report",
    "steergraph.cli.route_bench",
    "steergraph.cli.lab",
    "steergraph.cli.bench",
    "steergraph.cli.serve",
    "steergraph.cli.doctor",
)
"""Modules with `add_parser(subparsers)`, in the order of the help. They import nothing heavy before they run."""


class Interrupted(Exception):
    """Ctrl-C in the middle of a run. The message says how to go on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own by default). Returns the exit code; never raises for bad input."""
    parser = build_parser()
    arguments = parser.parse_args(argv, argparse.Namespace(argv=argv))
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except Interrupted as error:
        return _fail(str(error), EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NONE


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steergraph", description="Specialists of a small model, each steered.")
    parser.add_argument("--version", action="version", version=f"steergraph {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        import_module(module).add_parser(commands)
    return parser


def version() -> str:
    from importlib import metadata

    return metadata.version("steergraph")


def _fail(message: str, code: int) -> int:
    from steergraph.base.text import harmless

    print(f"steergraph: {' '.join(harmless(message).split())}", file=sys.stderr)
    return code
