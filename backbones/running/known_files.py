"""How files that commands of this project wrote are told from others, by what stands in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backbones.running.atomic_write import atomic_path

MARK = "shortcut"
"""The generator in HTML, the software in PNG, the key of our metadata in safetensors and ONNX."""
GENERATOR = f"<meta name='generator' content='{MARK}'>"
FIGURE_METADATA = {"Software": MARK}
"""What matplotlib's ``savefig`` is to write into a PNG."""
_LARGEST_JSON, _HEAD = 64 << 20, 1024


def json_with(*keys: str, **values: Any) -> Callable[[Path], bool]:
    """JSON files that hold an object with these keys and values."""
    return lambda path: _holds(_read_json(path), keys, values)


def measurement_of(what: str) -> Callable[[Path], bool]:
    """Files of ``write_measurement`` that hold the same measurement."""
    return json_with("command", "environment", "results", what=what)


def json_lines_with(*keys: str) -> Callable[[Path], bool]:
    """Files of JSON objects, one on a line, of which the first has these keys."""
    return lambda path: _holds(_first_line(path), keys, {})


def safetensors_with(*keys: str) -> Callable[[Path], bool]:
    """Model files of ours with these keys in their metadata."""
    return lambda path: _holds(_safetensors_metadata(path), keys, {})


def is_report(path: Path) -> bool:
    """A report in HTML."""
    with path.open("rb") as stream:
        return GENERATOR.encode() in stream.read(_HEAD)


def is_figure(path: Path) -> bool:
    """A PNG that says that we drew it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return bool(picture.info.get("Software") == MARK)
    except (OSError, UnidentifiedImageError):
        return False


def save_png(picture: Any, path: Path) -> None:
    """A picture [H, W, 3] as a PNG that ``is_figure``, whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("Software", MARK)
    with atomic_path(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG", pnginfo=about)


def never(path: Path) -> bool:
    """Files in which nothing says who wrote them."""
    return False


def _holds(content: Any, keys: tuple[str, ...], values: dict[str, Any]) -> bool:
    if not isinstance(content, dict) or not set(keys) | set(values) <= set(content):
        return False
    return all(content[key] == wanted for key, wanted in values.items())


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _first_line(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8") as stream:
            return json.loads(stream.readline(_LARGEST_JSON))
    except (OSError, ValueError, RecursionError):
        return None


def _safetensors_metadata(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return json.loads((file.metadata() or {}).get(MARK, "null"))
    except (OSError, ValueError, SafetensorError):
        return None
