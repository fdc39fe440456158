"""Where Triton is installed, and what its Python models need around them."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from backbones.errors import InputError
from deploy.serving.backend import PYTHON_VERSION

VARIABLE = "TRITON_DIR"
PROJECT = "SHORTCUT_PROJECT"
"""In this variable models find the code that serves. Triton's own Python may be isolated, and then reads no
``$PYTHONPATH``: it would run an installed project, perhaps of another version."""


@dataclass(frozen=True)
class Installation:
    """One Triton.

    Attributes:
        executable: ``tritonserver``.
        backends: the folder of its backends.
        libraries: those that come in the wheel; None where the system has them.
        stubs: the wheel's Python stubs by version; None where the backend has its own.
    """

    executable: Path
    backends: Path
    libraries: Path | None = None
    stubs: Path | None = None


def find_triton(folder: str | None) -> Installation | None:
    """The Triton of a folder or of ``$TRITON_DIR``, else of the nvidia-pytriton package, else on the path.

    Args:
        folder: an unpacked nvidia-pytriton wheel, or a folder like ``/opt/tritonserver``.

    Raises:
        InputError: the folder is given and holds no Triton.
    """
    given = folder or os.environ.get(VARIABLE)
    if given:
        found = _in_wheel(Path(given)) or _in_folder(Path(given))
        if found is None:
            raise InputError(f"--triton {given}: holds neither pytriton/tritonserver nor bin/tritonserver")
        return found
    spec = find_spec("pytriton")  # finds the files without running any of them
    if spec is not None and spec.submodule_search_locations:
        found = _in_wheel(Path(next(iter(spec.submodule_search_locations))).parent)
        if found is not None:
            return found
    on_path = shutil.which("tritonserver")
    return _in_folder(Path(on_path).resolve().parents[1]) if on_path else None


def container_command(repository: str) -> str:
    """How NVIDIA's container serves a repository, from the project's root."""
    return (
        "docker build -f deploy/manifests/Dockerfile -t shortcut-triton . && "
        f"docker run --rm --shm-size 1g -p 127.0.0.1:8000-8002:8000-8002 -v {repository}:/models:ro shortcut-triton "
        "tritonserver --model-repository=/models --model-control-mode=none --disable-auto-complete-config"
    )


def prepare_backends(installation: Installation, folder: Path) -> Path:
    """A folder of backends in which the Python backend has the stub for this interpreter.

    Args:
        installation: from ``find_triton``.
        folder: an empty one, for copies.

    Raises:
        InputError: there is no stub for this version of Python, or it has no shared library.
    """
    if installation.stubs is None:
        return installation.backends
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = installation.stubs / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise InputError(f"this Triton runs no models on Python {version}; --server builtin does without it")
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        raise InputError("Triton needs a Python with a shared library (--enable-shared); --server builtin does not")
    shutil.copytree(installation.backends, folder, dirs_exist_ok=True)
    own = folder / "python" / stub.name
    shutil.copyfile(stub, own)
    own.chmod(0o755)
    return folder


def environment(installation: Installation, project: Path) -> dict[str, str]:
    """The variables with which Triton's Python models find this interpreter, its packages and this project."""
    variables = dict(os.environ)
    variables[PROJECT] = str(project)
    if installation.stubs is not None:
        # The stub links libpython and takes its packages from the `python3` on the path: both must be this one.
        libraries = [str(sysconfig.get_config_var("LIBDIR")), str(installation.libraries)]
        variables["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, variables.get("LD_LIBRARY_PATH", "")]).strip(":")
        variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", "")])
        variables[PYTHON_VERSION] = sys.version
    return variables


def _in_wheel(folder: Path) -> Installation | None:
    server, libraries = folder / "pytriton" / "tritonserver", folder / "nvidia_pytriton.libs"
    if not (server / "bin" / "tritonserver").is_file() or not libraries.is_dir():
        return None
    return Installation(
        server / "bin" / "tritonserver", server / "backends", libraries, server / "python_backend_stubs"
    )


def _in_folder(folder: Path) -> Installation | None:
    executable = folder / "bin" / "tritonserver"
    if not executable.is_file():
        return None
    return Installation(executable, folder / "backends")
