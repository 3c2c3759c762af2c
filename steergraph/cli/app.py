"""The `steergraph` command: the table of its commands, and how every one of them ends.

    steergraph run --repo PATH|URL --issue FILE|-|TEXT|URL [--test CMD]
    steergraph ask "..." [--choices A B C]
    steergraph find --repo PATH|URL --issue FILE|-|TEXT|URL [--budget N]
    steergraph vectors extract|list|show
    steergraph models list|fetch|show
    steergraph bench swebench --dataset FILE|NAME --run-id ID
    steergraph eval --predictions FILE --dataset FILE --repos DIR [--executor docker]
    steergraph report RUN... [--grades DIR] [--dataset FILE] [--out DIR]
    steergraph lab sweep|switching --tasks MODULE:NAME --model MODEL --out DIR
    steergraph doctor

Exit codes: 0 a checked patch or an answer, 1 none found, 2 bad input, 130 interrupted (and resumable).
"""

import errno
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from steergraph.base.errors import InputError

EXIT_FOUND, EXIT_NONE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Entry(NamedTuple):
    help: str
    where: str | None = None
    """MODULE:FUNCTION below `steergraph.cli`; None: a group of its own in `GROUPS`."""


GROUPS: dict[str, dict[str, Entry]] = {
    "steergraph": {
        "run": Entry("an issue and a repository in, a checked patch out", "run:run"),
        "ask": Entry("a question in, an answer out, by the same graph", "run:ask"),
        "find": Entry("an issue and a repository in, the files and passages that matter out", "find:find"),
        "vectors": Entry("make, inspect, combine and carry over steering vectors"),
        "models": Entry("models with short names: which there are, fetch one, what one is"),
        "eval": Entry("grade SWE-bench predictions, with Docker or without (docs/swebench.md)", "eval:grade"),
        "report": Entry("pages that hold batch runs side by side (docs/reports.md)", "report:report"),
        "route-bench": Entry("measure how well each router tells domains apart", "route_bench:route_bench"),
        "lab": Entry("experiments on steering: paired items, arms scored alike, resumable"),
        "bench": Entry("run a benchmark: SWE-bench and others"),
        "serve": Entry("an OpenAI-compatible server with a steering field", "serve:serve"),
        "doctor": Entry("what this machine has, and what each missing part costs", "doctor:doctor"),
    },
    "vectors": {
        "extract": Entry("make a model's vectors, or take them from the cache", "vectors.extract:extract"),
        "list": Entry("the vectors in the cache, or in a folder", "vectors.show:list_vectors"),
        "show": Entry("one vector: where it is from, and its numbers at every layer", "vectors.show:show"),
        "compose": Entry("a weighted sum of vectors, with their norms and cosines", "vectors.compose:compose"),
        "calibrate": Entry(
            "find the dose that spends a given KL, and the largest that holds", "vectors.calibrate:calibrate"
        ),
        "project": Entry("carry domains' vectors from one model into another", "vectors.project:project"),
        "lens": Entry("tokens that a vector, or the residual after a text, speaks for", "vectors.lens:lens"),
        "verify": Entry(
            "check a vector's file, that it fits a model, and that it does something", "vectors.lens:verify"
        ),
        "export": Entry("write a vector in another project's format (docs/formats.md)", "vectors.exchange:export"),
        "import": Entry("take a vector from another project's file", "vectors.exchange:import_file"),
    },
    "models": {
        "list": Entry("the models that have names, and which are on this machine", "models.named:list_models"),
        "fetch": Entry("download one and check its hash", "models.named:fetch"),
        "show": Entry("what the catalog and the file say of one", "models.named:show"),
    },
    "lab": {
        "sweep": Entry("every layer at every dose, in every domain", "lab:sweep"),
        "switching": Entry("vectors switched from step to step, against static and none", "lab:switching"),
    },
    "bench": {
        "swebench": Entry("predictions for many instances, resumable, for the official harness", "bench:swebench"),
        "retrieval": Entry("does retrieval find the gold files? against rank_bm25, with intervals", "bench:retrieval"),
    },
}
"""Every command, in the order of the help. Nothing of a command is imported before it is called."""


class Interrupted(Exception):
    """Ctrl-C in the middle of a run. The message says how to go on."""


class Command(TyperCommand):
    """A command whose list options take several words, `--layer 1 2`, beside `--layer 1 --layer 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {word for param in self.params if getattr(param, "multiple", False) for word in param.opts}
        return super().parse_args(ctx, _repeated(args, lists))


class Commands(TyperGroup):
    """A group of `GROUPS`, by its name. Help knows names and lines; what is called is imported then."""

    def __init__(self, *, name: str, **settings: Any) -> None:
        entries = {word: TyperCommand(word, help=entry.help) for word, entry in GROUPS[name].items()}
        super().__init__(name=name, **{**settings, "commands": entries})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        word, known, rest = super().resolve_command(ctx, args)
        return word, known and _load(word or "", GROUPS[self.name or ""][word or ""]), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own by default). Returns the exit code; never raises for bad input."""
    with _printable():
        try:
            return invoke(argv)
        except (InputError, Interrupted) as error:
            from steergraph.base.text import harmless

            print(f"steergraph: {' '.join(harmless(str(error)).split())}", file=sys.stderr)
            return EXIT_INTERRUPTED if isinstance(error, Interrupted) else EXIT_BAD_INPUT


def invoke(argv: Sequence[str] | None = None) -> int:
    """As `main`, but what was wrong is raised, as InputError or Interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = get_command(_app()).main(
            words, "steergraph", standalone_mode=False, obj=shlex.join(["steergraph", *words])
        )
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()
        return int(code or 0)
    except typer.TyperException as error:  # of the words, not of what they name
        said, context = error.format_message().replace("Value error, ", ""), getattr(error, "ctx", None)
        where = context.command_path if context else "steergraph"
        raise InputError(f"{said} ({where} --help shows what it takes)") from None
    except SystemExit as end:  # of a shell's completion
        return int(end.code or 0)
    except BrokenPipeError:  # whoever read the output has gone
        _print_nowhere()
        return EXIT_NONE
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _print_nowhere()  # what is left in its buffer can't be printed either
        where = f" {error.filename}" if error.filename else ""
        raise InputError(f"cannot write{where}: {error.strerror}") from error


@contextmanager
def _printable() -> Iterator[None]:
    """While a command runs, what a terminal's encoding lacks (ASCII, cp1252) is printed as an escape, and no error."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [(stream, stream.errors) for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in before:
            if not stream.closed:
                stream.reconfigure(errors=errors)


def _print_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _app() -> typer.Typer:
    app = typer.Typer(name="steergraph", cls=Commands, help="Specialists of a small model, each steered.")

    option = typer.Option("--version", is_eager=True, callback=_version, help="print it, and end")

    @app.callback()
    def steergraph(version: Annotated[bool, option] = False) -> None:
        """Only its options: each command is one of `GROUPS`."""

    return app


def _version(wanted: bool) -> None:
    from steergraph.base.versions import version_of

    if wanted:
        print(f"steergraph {version_of()}")
        raise typer.Exit


def _load(name: str, entry: Entry) -> Any:
    if entry.where is None:
        app = typer.Typer(name=name, cls=Commands, help=entry.help, add_completion=False)
        app.callback()(lambda: None)
    else:
        module, _, function = entry.where.partition(":")
        app = typer.Typer(add_completion=False)
        command = getattr(import_module(f"steergraph.cli.{module}"), function)
        app.command(name, cls=Command, help=entry.help)(command)
    return get_command(app)


def _repeated(words: Sequence[str], lists: set[str]) -> list[str]:
    """`words` with an option of `lists` before each of the values that follow it."""
    spread: list[str] = []
    option = None
    for at, word in enumerate(words):
        if word == "--":
            return [*spread, *words[at:]]
        is_value = not word.startswith("-") or word == "-" or re.fullmatch(r"-\d*\.?\d+", word)
        if not is_value:
            option = word if word in lists else None
            spread.append(word)
        else:
            spread += [option, word] if option and spread[-1] != option else [word]
    return spread
