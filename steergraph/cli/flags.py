"""What a command is told, as its options: one for each field of the records in its signature."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer
from pydantic import ValidationError

from steergraph.agents.run_config import Command, flags
from steergraph.base.errors import InputError, first_problem
from steergraph.base.records import Frozen


def told(command: Command) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """In the place of a parameter that is a record with flags (a `RunConfig`), the function has the options that
    `command` has of it, and is called with them read into one. Raises InputError for a value that a field does not
    take."""

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        parameters = list(inspect.signature(function).parameters.values())
        records = {one.name: one.annotation for one in parameters if _has_flags(one.annotation, command)}

        def call(**words: Any) -> int:
            try:
                made = {
                    name: record(**{field: words.pop(field) for field in flags(record, command)})
                    for name, record in records.items()
                }
            except ValidationError as error:
                raise InputError(f"--{first_problem(error).replace('_', '-', 1)}") from error
            return function(**made, **words)

        options = [option for record in records.values() for option in _options(record, command)]
        shown = sorted([*(one for one in parameters if one.name not in records), *options], key=lambda one: one.kind)
        call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in shown}
        return call

    return decorate


def need_resume_alone(ctx: typer.Context, *allowed: str) -> None:
    """Raise InputError for a word of the command line beside --resume and those `allowed` with it."""
    for param in ctx.command.params:
        name = param.name or ""
        source = ctx.get_parameter_source(name)
        if name not in ("resume", *allowed) and source is not None and source.name == "COMMANDLINE":
            said = next((word for word in param.opts if word.startswith("--")), name.upper())
            raise InputError(f"--resume goes on with what was told before: leave {said} out, or begin anew")


def _has_flags(annotation: Any, command: Command) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Frozen) and bool(flags(annotation, command))


def _options(record: type[Frozen], command: Command) -> list[inspect.Parameter]:
    types = get_type_hints(record)
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(
                ... if field.is_required() else field.default,
                f"--{name.replace('_', '-')}",
                help=flag.help,
                metavar=flag.metavar,
            ),
            annotation=types[name],
        )
        for name, (field, flag) in flags(record, command).items()
    ]
