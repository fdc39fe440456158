"""Who is let in: names and passwords from a file, never from the command line, where other users could read them."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path

from backbones.errors import InputError

_SHORTEST = 8


def read_logins(path: Path) -> dict[str, str]:
    """Lines of ``name:password``; empty ones, and those that begin with #, are passed over.

    Raises:
        InputError: the file cannot be read, others may read it, or a line has another form.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path}: others may read it; chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from error
    logins: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, password = line.partition(":")
        if not separator or not name or len(password) < _SHORTEST:
            raise InputError(f"{path}:{number}: expected name:password, with at least {_SHORTEST} characters")
        logins[name] = password
    if not logins:
        raise InputError(f"{path}: names nobody")
    return logins


def login_check(logins: dict[str, str]) -> Callable[[str, str], bool]:
    """Whether a name and a password belong together; takes as long for unknown names as for known ones."""

    def check(name: str, password: str) -> bool:
        known = logins.get(name)
        right = hmac.compare_digest((known or "").encode(), password.encode())
        return right and known is not None

    return check
