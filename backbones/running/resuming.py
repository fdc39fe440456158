"""A new run folder or an old one, and the options that belong to it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.checkpoint import read_torch_file
from backbones.running.command_line import CommandOptions, as_plain_values, flag_of
from backbones.running.outputs import Outputs
from backbones.running.run_folder import RunFolder

Options = TypeVar("Options", bound=CommandOptions)
_MACHINE = ("device", "workers", "quiet", "debug", "tensorboard", "data_dir", "download", "overwrite")
_OF_THE_START = ("resume", "overwrite")


def options_of_run(given: Options, folder: Path) -> Options:
    """The options that the run in a folder was started with; what belongs to the machine may differ.

    Raises:
        InputError: there is no run in it, or one of another command, or another value is given for an option of it.
    """
    saved = given.renewed(RunFolder.reopen(folder).read_config())
    strange = sorted(set(saved) - {item.name for item in fields(given)})
    if strange:
        raise InputError(
            f"{folder}: was started by another command or version (no option {strange[0]!r} here); resume it with the "
            "train.py that started it, in backbones/ or detection/"
        )
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    for item in fields(given):
        value, own = getattr(given, item.name), values.get(item.name)
        if item.name not in (*_MACHINE, "resume") and value not in (item.default, own):
            flag = flag_of(item.name)
            raise InputError(
                f"{flag} {value}: the run in {folder} goes on as it was started, with {own}; leave {flag} out, "
                f"or start a new run"
            )
    kept = {name: getattr(given, name) for name in _MACHINE if hasattr(given, name)}
    return replace(given, **{**values, **kept, "resume": str(folder)})


def saved_state(folder: Path) -> dict[str, Any] | None:
    """The state in a run folder; None where a run was stopped before it saved one."""
    path = RunFolder(folder).state
    return read_torch_file(path) if path.exists() else None


def open_run(options: Any) -> RunFolder:
    """The folder: that of the run to resume, or a new one, made only when nothing can be wrong with the input.

    Args:
        options: with ``resume`` and ``output``.

    Raises:
        InputError: the new folder holds a run already, or files of something else.
    """
    if options.resume:
        run = RunFolder(Path(options.resume))
        if distributed.is_main():
            run.remove_leftovers()
        return run
    if not distributed.is_main():
        return RunFolder(Path(options.output))
    config = {name: value for name, value in as_plain_values(options).items() if name not in _OF_THE_START}
    return RunFolder.create(Path(options.output), config, run_outputs(options))


def run_outputs(options: Any) -> Outputs:
    """What a new run may write, by its options."""
    reads = [getattr(options, name, None) for name in ("weights", "init_from")]
    return Outputs(reads, overwrite=options.overwrite)
