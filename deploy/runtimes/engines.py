"""Which engine runs which file."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from backbones.errors import InputError
from backbones.extras import explained, missing
from deploy.engine_names import ENGINES, HINTS, SUFFIXES, TABLE
from deploy.runtimes.session import Session


def choose_engine(path: Path, wanted: str | None = None) -> str:
    """The engine for a file: the wanted one, or the first that is installed.

    Raises:
        InputError: not an exported file, no such engine, it does not run such files, or none is installed.
    """
    if wanted is not None and wanted not in ENGINES:
        raise InputError(f"no engine {wanted!r}; there are {', '.join(ENGINES)}")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path}: not an exported model ({', '.join(SUFFIXES)}); make one with deploy/export.py --model {path}"
        )
    fitting = SUFFIXES[path.suffix]
    if wanted is not None and wanted not in fitting:
        raise InputError(f"{path}: {wanted} does not run it; {' or '.join(fitting)} does")
    if wanted is not None:
        return wanted
    needed = {engine: TABLE[engine].packages for engine in fitting}
    installed = [engine for engine, packages in needed.items() if not packages or any(map(find_spec, packages))]
    if not installed:
        raise missing(fitting[0], f"{path}: running it")
    return installed[0]


def open_session(path: Path, engine: str, threads: int | None = None, hint: str = "latency") -> Session:
    """Load an exported file into its engine. Arguments as for ``load_runtime``.

    Raises:
        InputError: the engine is not installed, or the file is missing, damaged, or was exported by something else.
    """
    if hint not in HINTS:
        raise InputError(f"no hint {hint!r}; there are {', '.join(HINTS)}")
    row = TABLE[engine]
    module, _, name = row.session.partition(":")
    given = {"threads": threads, "hint": hint}
    try:
        session: Session = getattr(import_module(module), name)(path, **{key: given[key] for key in row.takes})
    except ModuleNotFoundError as error:
        raise explained(error) or error from None
    return session
