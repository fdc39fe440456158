"""Large JSON files, item by item: no more than one item is in memory at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from backbones.errors import InputError

_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")


class JsonMembers:
    """The members of the object that a JSON file holds, in turn.

    ``for name in members`` gives their names; what follows a name is read by ``items()``, or skipped. All of it raises
    InputError, with the line, where the file is not JSON.

    Args:
        stream: the file.
        name: what errors call it.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._line = "", 0, 1
        self._unread = False

    def __iter__(self) -> Iterator[str]:
        mark = self._take("{")
        while mark != "}":
            if mark == "{" and self._next() == "}":
                return
            name = self._value()
            self._take(":")
            self._unread = True
            yield str(name)
            if self._unread:
                self._skip()
            mark = self._take(",}")

    def is_list(self) -> bool:
        """Whether the member whose name came last is a list."""
        return self._next() == "["

    def items(self) -> Iterator[Any]:
        """The items of that list, one by one; all of them are to be taken."""
        self._unread = False
        mark = self._take("[")
        if self._next() == "]":
            mark = self._take("]")
        while mark != "]":
            yield self._value()
            mark = self._take(",]")

    def _skip(self) -> None:
        self._unread = False
        if self.is_list():
            for _ in self.items():
                pass
        else:
            self._value()

    def _value(self) -> Any:
        while True:
            self._next()
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                raise self._error(error.pos, f"{error.msg[:1].lower()}{error.msg[1:]}") from error
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
                raise self._error(self._at, str(error)) from error
            after = _SPACE.match(self._text, end).end()  # type: ignore[union-attr] # it matches nothing, too
            # What is followed by no such mark may go on in the next chunk: the 12 of 12.5.
            if (after < len(self._text) and self._text[after] in ",:]}") or not self._more():
                self._at = end
                return value

    def _take(self, marks: str) -> str:
        found = self._next()
        if not found or found not in marks:
            raise self._error(self._at, f"expected {' or '.join(marks)}, found {found or 'the end of the file'}")
        self._at += 1
        return found

    def _error(self, place: int, what: str) -> InputError:
        line = self._line + self._text.count("\n", 0, place)
        return InputError(f"{self._name}: not JSON (line {line}: {what})")

    def _next(self) -> str:
        """The next character that is no space, not taken; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _more(self) -> bool:
        """Forget what is taken, and read on: as much again as is kept, so that a long item is not read many times."""
        kept = len(self._text) - self._at
        piece = self._stream.read(max(_CHUNK, kept))
        if piece:
            self._line += self._text.count("\n", 0, self._at)
            self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)


@contextmanager
def json_members(path: Path) -> Iterator[JsonMembers]:
    """Open a JSON file that holds an object.

    Raises:
        InputError: it cannot be read, or is not UTF-8; also while its members are read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            yield JsonMembers(stream, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
