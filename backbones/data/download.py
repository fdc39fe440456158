"""Fetching a published file: whole or not at all."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from backbones.errors import InputError
from backbones.running.atomic_write import atomic_path

_TIMEOUT = 60


def download(address: str, target: Path) -> Path:
    """Fetch a file; its name appears only when all of it is there. The caller checks its checksum.

    Raises:
        InputError: it can't be fetched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            urllib.request.urlopen(address, timeout=_TIMEOUT) as answer,
            atomic_path(target) as partial,
            partial.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, OSError) as error:
        raise InputError(f"{address} can't be fetched ({error}); put the file at {target} yourself") from error
    return target
