"""Command lines made from typed dataclasses: one field, one flag.

A command states its options once, as a frozen dataclass whose fields carry their help; the same class is what
``train(config)`` takes from Python and what ``--config FILE.yaml`` holds. Exit codes: 0 done, 1 failed with one
line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from backbones.errors import InputError, did_you_mean

Options = TypeVar("Options", bound="CommandOptions")
Choices = Sequence[str] | Callable[[], Sequence[str]]

FAILED, USAGE, INTERRUPTED = 1, 2, 130
_FROM_WORKER = "in DataLoader worker process"


def option(
    default: Any,
    text: str,
    *,
    group: str = "options",
    choices: Choices | None = None,
    metavar: str | None = None,
    positional: bool = False,
    otherwise: str = "",
) -> Any:
    """A dataclass field with the help text of its flag.

    Args:
        default: the field's default; None means that something else decides, as the help says.
        text: the help, without the default, which is added.
        group: the heading under which ``--help`` lists it.
        choices: the values that are taken, or a function that lists them.
        metavar: how the help calls the value.
        positional: the value needs no flag.
        otherwise: what decides where the default is None, in the words of the help: ``the recipe's``.
    """
    keys = {
        "help": text, "group": group, "choices": choices, "metavar": metavar, "positional": positional,
        "otherwise": otherwise,
    }  # fmt: skip
    return field(default=default, metadata=keys)


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Flags of every command."""

    quiet: bool = option(False, "print results and errors only", group="output")
    debug: bool = option(False, "show the whole traceback of an error", group="output")

    @classmethod
    def renewed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What a file holds that an older version wrote, as this one would have written it."""
        return values


@dataclass(frozen=True, kw_only=True)
class OutputOptions(CommandOptions):
    """Flags of every command that writes files under given names (``backbones.running.outputs`` says which may be)."""

    overwrite: bool = option(False, "replace files that this command did not write, too", group="output")


class Interrupted(Exception):
    """The user asked a run to stop (Ctrl-C, SIGTERM), and its state is saved."""


def run_command(
    options_class: type[Options],
    body: str | Callable[[Options], object],
    *,
    description: str,
    examples: Sequence[str] = (),
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the command line, run ``body``, and turn what happens into an exit code.

    Args:
        options_class: the dataclass that states the options.
        body: a function of the options, or ``package.module:function``, imported after parsing, so that ``--help``
            needs no torch.
        description, examples: for ``--help``.
        argv: arguments; the process's own by default.
    """
    options = parse(options_class, description, examples, argv)
    try:
        _function(body)(options)
    except (KeyboardInterrupt, Interrupted) as stop:
        print(f"interrupted{f': {stop}' if str(stop) else ''}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # the last line of defence: a user sees one line, a developer asks for --debug
        if options.debug:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return FAILED
    return 0


def _function(body: str | Callable[[Options], object]) -> Callable[[Options], object]:
    if not isinstance(body, str):
        return body
    module_name, function_name = body.split(":")
    function: Callable[[Options], object] = getattr(import_module(module_name), function_name)
    return function


def parse(
    options_class: type[Options],
    description: str,
    examples: Sequence[str] = (),
    argv: Sequence[str] | None = None,
) -> Options:
    """The options of a command line; values in ``--config FILE.yaml`` come first, flags win.

    Exits with status 2 for unknown options or values, naming the nearest known one.
    """
    parser = _Parser(
        description=description,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    hints = typing.get_type_hints(options_class)
    inherited = {item.name for base in options_class.__mro__[1:-1] for item in dataclasses.fields(base)}
    for item in sorted(dataclasses.fields(options_class), key=lambda item: item.name in inherited):
        title = item.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_argument(groups[title], item, hints[item.name])
    groups["output"].add_argument("--config", metavar="FILE.yaml", help="read options from a file; flags win")
    given = vars(parser.parse_args(argv))
    config = given.pop("config", None)
    try:
        values = {**(read_config(options_class, config) if config else {}), **given}
        return options_class(**values)
    except InputError as error:
        parser.error(str(error))


def read_config(options_class: type[Options], path: str) -> dict[str, Any]:
    """The fields of ``options_class`` that a YAML file sets.

    Raises:
        InputError: no such file, not YAML, an unknown name, or a value of another type.
    """
    import yaml

    try:
        with Path(path).open(encoding="utf-8") as stream:
            values = yaml.safe_load(stream) or {}
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: not YAML ({_one_line(error)})") from error
    if not isinstance(values, dict):
        raise InputError(f"--config {path}: expected lines of the form 'name: value'")
    hints = typing.get_type_hints(options_class)
    fields = {item.name: item for item in dataclasses.fields(options_class)}
    read = {}
    for key, value in options_class.renewed(values).items():
        name = str(key).replace("-", "_")
        if name not in fields:
            raise InputError(f"--config {path}: unknown option {key!r}{did_you_mean(name, fields)}")
        try:
            read[name] = _checked(value, hints[name], fields[name].metadata["choices"])
        except (TypeError, ValueError) as error:
            raise InputError(f"--config {path}: {key}: {error}") from error
    return read


def as_plain_values(options: Any) -> dict[str, Any]:
    """A dataclass of options as plain values that YAML and JSON hold."""
    return {
        item.name: list(value) if isinstance(value := getattr(options, item.name), tuple) else value
        for item in dataclasses.fields(options)
    }


class _Parser(argparse.ArgumentParser):
    """argparse that suggests the nearest flag or value for a misspelt one."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0]
            known = [flag for action in self._actions for flag in action.option_strings]
            self.error(f"unknown option {word}{did_you_mean(word.split('=')[0], known)}")
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse's own ``choices`` would be listed to print the help, which may mean importing other packages.
        choices = getattr(action, "listing", None)
        allowed = choices() if callable(choices) else choices
        if allowed is not None and value not in allowed:
            listing = ", ".join(allowed)
            raise argparse.ArgumentError(action, f"no {value!r}{did_you_mean(str(value), allowed)}; one of {listing}")

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(USAGE)


def _add_argument(group: argparse._ArgumentGroup, item: dataclasses.Field[Any], hint: Any) -> None:
    kind, repeated = _value_type(hint)
    decides = item.metadata["otherwise"] if item.default in (None, (), "") else _show(item.default)
    default = f" (default: {decides})" if decides else ""
    choices = item.metadata["choices"]
    settings: dict[str, Any] = {"help": (item.metadata["help"] + default).replace("%", "%%")}
    if kind is bool:
        group.add_argument(flag_of(item.name), action=argparse.BooleanOptionalAction, **settings)
        return
    if repeated:
        settings |= {"nargs": "*" if item.metadata["positional"] else "+", "action": _Tuple}
    metavar = item.metadata["metavar"] or ("N" if kind in (int, float) else item.name.upper())
    settings |= {"type": kind, "metavar": "{" + ",".join(choices) + "}" if isinstance(choices, tuple) else metavar}
    action = group.add_argument(item.name if item.metadata["positional"] else flag_of(item.name), **settings)
    action.listing = choices  # type: ignore[attr-defined]


class _Tuple(argparse.Action):
    """Several values; a flag that is given again adds to them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *values))


def _value_type(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether the option takes several: ``tuple[int, ...] | None`` -> (int, True)."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _checked(value: Any, hint: Any, choices: Choices | None) -> Any:
    kind, repeated = _value_type(hint)
    optional = types.NoneType in typing.get_args(hint)
    if value is None and optional:
        return None
    if repeated:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {value!r}")
        return tuple(_checked(part, kind, choices) for part in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is float and isinstance(value, str):
        value = float(value)  # YAML reads 1e-4 as text
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    allowed = choices() if callable(choices) else choices
    if allowed is not None and value not in allowed:
        raise ValueError(f"no {value!r}{did_you_mean(str(value), allowed)}; one of {', '.join(allowed)}")
    return value


def flag_of(name: str) -> str:
    """``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")


def _show(value: Any) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def _one_line(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        from backbones.extras import explained

        error = explained(error) or error
    text = str(error)
    if isinstance(error, InputError):
        # torch hands an error of a worker process on with that process's traceback in front of it
        text = text.rpartition("InputError: ")[2] if _FROM_WORKER in text else text
        return " ".join(text.split())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]} (--debug shows where)"
    text = " ".join(text.split())
    return f"{type(error).__name__}: {text} (--debug shows where)" if text else f"{type(error).__name__} (use --debug)"
