"""The options of a run: one for each field of its configuration that the command can be told."""

import argparse
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError

from steergraph.agents.run_config import Command, RunConfig, flags
from steergraph.base.errors import InputError, first_problem

Config = TypeVar("Config", bound=RunConfig)


def add_flags(parser: argparse.ArgumentParser, config: type[RunConfig], command: Command) -> None:
    """Register the options that `command` has of `config`, with the fields' own defaults."""
    for name, (field, flag) in flags(config, command).items():
        word, common = f"--{name.replace('_', '-')}", {"default": field.default, "help": flag.help}
        kind, choices = _kind(field.annotation)
        if kind is bool:
            parser.add_argument(word, action="store_true", **common)
        elif choices:
            parser.add_argument(word, choices=choices, **common)
        else:
            parser.add_argument(word, type=kind, metavar=flag.metavar, **common)


def config_of(arguments: argparse.Namespace, config: type[Config], command: Command, **more: Any) -> Config:
    """What the words say. Raises InputError for a value that a field does not take."""
    try:
        return config(**{name: getattr(arguments, name) for name in flags(config, command)}, **more)
    except ValidationError as error:
        raise InputError(f"--{first_problem(error).replace('_', '-', 1)}") from error


def _kind(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """The type of an option's value, and its choices where it has some."""
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    inner = [one for one in get_args(annotation) if one is not type(None)]
    return _kind(inner[0]) if inner else (annotation, ())
