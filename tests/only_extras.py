"""A command as where only some extras are installed: ``python tests/only_extras.py serve,video demo/app.py --help``.

Every other package of this environment is hidden, found neither by import nor by ``find_spec``. After ``+`` stand
packages that were installed by themselves: ``serve+defusedxml``.
"""

from __future__ import annotations

import runpy
import sys
import tomllib
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def closure(wanted: list[str]) -> set[str]:
    """Names of distributions, and of all that they need here."""
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in wanted]
    while waiting:
        needed = waiting.pop()
        for extra in ("", *needed.extras):
            key = (canonicalize_name(needed.name), extra)
            if key in seen:
                continue
            seen.add(key)
            try:
                lines = metadata.requires(needed.name) or []
            except metadata.PackageNotFoundError:
                continue
            parts = [Requirement(line) for line in lines]
            waiting += [part for part in parts if part.marker is None or part.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def hide_all_but(extras: str) -> None:
    """From here on only the core, these extras and what they need can be imported."""
    listed, *alone = extras.split("+")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *alone]
    for extra in filter(None, listed.split(",")):
        wanted += project["optional-dependencies"][extra]
    kept = closure(wanted)
    modules = {
        module for module, owners in metadata.packages_distributions().items()
        if kept & set(map(canonicalize_name, owners))
    }  # fmt: skip
    sites = tuple(path for path in sys.path if "site-packages" in path)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in modules and str(getattr(module, "__file__", "")).startswith(sites):
            del sys.modules[name]

    class Hiding(PathFinder):
        @classmethod
        def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
            spec = super().find_spec(fullname, path, target)
            top = fullname.partition(".")[0]
            places = [str(spec.origin), *(spec.submodule_search_locations or [])] if spec else []
            hidden = top not in modules and any(place.startswith(sites) for place in places)
            return None if hidden else spec

    sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]


if __name__ == "__main__":
    hide_all_but(sys.argv[1])
    script = ROOT / sys.argv[2]
    sys.argv[:] = [str(script), *sys.argv[3:]]
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
