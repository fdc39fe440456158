"""What is known of a built engine, and whether it may be loaded here.

It stands in a ``.plan.json`` beside the ``.plan`` (the ONNX file has its own ``.json``): a header inside would keep
other programs, Triton among them, from reading the engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.metadata import DamagedMetadata, ModelMetadata, read_exported
from deploy.engines.binding import RTX, TITLES
from deploy.engines.profiles import Profile


@dataclass(frozen=True)
class Gpu:
    """A graphics processor: its model, and its compute capability as (major, minor)."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class EngineRecord:
    """How an engine was built: the ``engine`` section of the sidecar.

    Attributes:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library, in full.
        gpu: on which it was built; None for TensorRT-RTX without one.
        hardware_compatibility, version_compatible, refit, strip_weights: as in ``BuildOptions``.
        profiles: in the engine's order.
        onnx: name of the file it was built from.
        onnx_sha256: and its checksum.
        seconds: that building took.
        rebuild: the command line that builds it again.
    """

    library: str
    version: str
    gpu: Gpu | None
    hardware_compatibility: str
    version_compatible: bool
    refit: bool
    strip_weights: bool
    profiles: tuple[Profile, ...]
    onnx: str
    onnx_sha256: str
    seconds: float
    rebuild: str
    options: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: value for name, value in self.__dict__.items() if name != "profiles"}
        gpu = asdict(self.gpu) if self.gpu else None
        return plain | {"gpu": gpu, "profiles": [profile.to_dict() for profile in self.profiles]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EngineRecord:
        """The inverse of ``to_dict``, after a trip through JSON."""
        gpu = Gpu(values["gpu"]["name"], tuple(values["gpu"]["capability"])) if values["gpu"] else None
        profiles = tuple(Profile.from_dict(profile) for profile in values["profiles"])
        return cls(**{**values, "gpu": gpu, "profiles": profiles})


def sidecar_of(path: Path) -> Path:
    """Where the metadata of an engine stands: ``model.plan.json``."""
    return path.with_name(path.name + ".json")


def sha256_of(path: Path) -> str:
    """The checksum of a file, read in parts."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_plan(path: Path) -> tuple[bytes, ModelMetadata, EngineRecord]:
    """An engine's bytes, the metadata of the exported model, and how it was built.

    Raises:
        InputError: the plan or its sidecar is missing or damaged, they do not belong together, or a newer version
            wrote them.
    """
    sidecar = sidecar_of(path)
    for file in (path, sidecar):
        if not file.is_file():
            raise InputError(f"{file}: no such file; deploy/export.py writes a .plan together with its .plan.json")
    try:
        text = sidecar.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{sidecar}: cannot be read ({error}); build it again") from error
    try:
        metadata = read_exported(text, sidecar)
        assert metadata.exported is not None
        record = EngineRecord.from_dict(metadata.exported.engine or {})
    except DamagedMetadata as damage:
        raise InputError(f"{sidecar}: does not describe an engine ({damage.reason}); build it again") from damage
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise InputError(f"{sidecar}: does not describe an engine ({reason}); build it again") from error
    plan = path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != metadata.sha256:
        raise InputError(f"{path}: is not the file that {sidecar.name} describes, or cut short; {_again(record)}")
    return plan, metadata, record


def weights_of(path: Path, record: EngineRecord) -> Path:
    """The ONNX file that an engine was built from, which holds the weights of one built without them.

    Raises:
        InputError: it does not lie beside the engine, or is another file.
    """
    file = path.with_name(record.onnx)
    if not file.is_file() or sha256_of(file) != record.onnx_sha256:
        raise InputError(f"{path}: was built without weights; put the {record.onnx} that it was built from beside it")
    return file


def check_plan(path: Path, record: EngineRecord, version: str, gpu: Gpu) -> None:
    """Make sure, before TensorRT sees an engine, that it can run here.

    Args:
        path: of the plan, for messages.
        record: how it was built.
        version: of the same library, here.
        gpu: here.

    Raises:
        InputError: another version or GPU built it; the message holds the command that builds it for this one.
    """
    title = TITLES[record.library]
    if not _version_fits(record, version):
        raise InputError(f"{path}: built by {title} {record.version}, here is {version}; {_again(record)}")
    if not _gpu_fits(record, gpu):
        built = f"{record.gpu.name} ({_dotted(record.gpu)})" if record.gpu else "another GPU"
        raise InputError(f"{path}: built for {built}, here is {gpu.name} ({_dotted(gpu)}); {_again(record)}")


def _version_fits(record: EngineRecord, version: str) -> bool:
    """Equal; or, for version-compatible engines, not older and of the same or the next major version."""
    if not record.version_compatible:
        return record.version == version
    built, here = _numbers(record.version), _numbers(version)
    return built <= here and here[0] - built[0] <= 1


def _gpu_fits(record: EngineRecord, gpu: Gpu) -> bool:
    if record.library == RTX:  # its engines are finished where they run, and it judges them itself
        return True
    if record.hardware_compatibility == "ampere_plus":
        return gpu.capability >= (8, 0)
    if record.gpu is None:
        return False
    if record.hardware_compatibility == "same_compute_capability":
        return record.gpu.capability == gpu.capability
    return record.gpu == gpu


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _dotted(gpu: Gpu) -> str:
    return f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"


def _again(record: EngineRecord) -> str:
    return f"build it here: {record.rebuild}"
