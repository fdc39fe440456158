"""Fetching a published file: whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from backbones.errors import InputError
from backbones.running.atomic_write import PARTIAL, atomic_path
from backbones.running.progress import progress

_TIMEOUT = 60
_CHUNK = 1 << 20
_REPORT_SECONDS = 10
_RANGE_NOT_SATISFIABLE = 416


def download(address: str, target: Path, md5: str | None = None) -> Path:
    """Fetch a file; its name appears only when all of it is there.

    With a checksum, a fetch that breaks off leaves its part behind, and the next one goes on from there. Without, the
    caller checks what came.

    Args:
        address: of the file.
        target: where to put it.
        md5: the published checksum.

    Raises:
        InputError: it can't be fetched, does not fit on the disk, or has another checksum.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if md5 is not None:
            return _resume(address, target, md5)
        with atomic_path(target) as partial, partial.open("wb") as file, _open(address) as answer:
            _copy(answer, file, target, 0)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise InputError(f"{address} can't be fetched ({error}); put the file at {target} yourself") from error
    return target


def check_md5(path: Path, md5: str) -> None:
    """Compare a file with its published checksum.

    Raises:
        InputError: it has another.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest != md5:
        raise InputError(f"{path}: MD5 {digest}, the published file has {md5}; it is damaged or altered; remove it")


def _resume(address: str, target: Path, md5: str) -> Path:
    partial = target.with_name(target.name + PARTIAL)
    done = partial.stat().st_size if partial.exists() else 0
    try:
        with _open(address, done) as answer:
            done = done if answer.status == http.client.PARTIAL_CONTENT else 0
            with partial.open("ab" if done else "wb") as file:
                _copy(answer, file, target, done)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE:  # it was all there
            raise
    try:
        check_md5(partial, md5)
    except InputError:
        partial.unlink()
        raise
    partial.replace(target)
    return target


def _open(address: str, start: int = 0) -> Any:
    headers = {"Range": f"bytes={start}-"} if start else {}
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=_TIMEOUT)


def _copy(answer: Any, file: BinaryIO, target: Path, done: int) -> None:
    """Write what comes after the first ``done`` bytes, and hold it to the length that was announced."""
    announced = answer.headers.get("Content-Length")
    total = done + int(announced) if announced else 0
    free = shutil.disk_usage(target.parent).free
    if total - done > free:
        raise InputError(f"{target.name} needs {total - done} bytes, but {target.parent} has {free} bytes left")
    said = time.monotonic()
    with progress(target.name, total // _CHUNK, done // _CHUNK) as bar:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            bar.advance()
            if time.monotonic() - said > _REPORT_SECONDS:
                said = time.monotonic()
                bar.report("MiB")
    if total and done != total:
        raise OSError(f"broke off after {done} of {total} bytes; run the command again")
