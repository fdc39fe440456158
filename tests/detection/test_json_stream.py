"""JSON read item by item, in pieces of any length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from detection.data import json_stream
from detection.data.json_stream import json_members

CONTENT = {
    "info": {"year": 2017, "deep": [[1, [2]], {"x": "}],{"}]},
    "images": [{"id": 1, "name": 'a,]\\"b'}, {"id": 2}],
    "empty": [],
    "number": -12.5e3,
    "numbers": [1, 12.25, 1e30, -7],
    "text": "über",
    "nothing": None,
}


def read(path: Path, wanted: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with json_members(path) as members:
        for name in members:
            found[name] = list(members.items()) if name in wanted and members.is_list() else None
    return found


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 3])
def test_lists_come_whole_however_the_file_is_cut(
    chunk: int, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text("\ufeff" + json.dumps(CONTENT, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    found = read(path, ("images", "empty", "numbers", "number"))
    assert list(found) == list(CONTENT)
    for name in ("images", "empty", "numbers"):
        assert found[name] == CONTENT[name]
    assert found["number"] is None
    assert read(path, ()) == dict.fromkeys(CONTENT)


def test_an_object_without_members(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{ }")
    assert read(tmp_path / "a.json", ()) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected {, found the end of the file"),
        ("[1]", r"line 1: expected {, found \["),
        ('{"a": [1,\n2', "line 2: expected , or ], found the end"),
        ('{"a": [1,\n\n2 3]}', "line 3: expected , or ], found 3"),
        ('{"a":\n{"b": tru}}', "line 2: expecting value"),
        ('{"a": [' + "9" * 5000 + "]}", "line 1: .*digits"),
        ('{"a": ' + "[" * 100_000, "line 1"),
        ('{"a": 1', "found the end of the file"),
    ],
)
@pytest.mark.parametrize("chunk", [4, 1 << 20])
def test_faults_are_told_with_their_line(
    text: str, message: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read(path, ("a",))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(InputError, match=r"a.json: cannot be read .*utf-8"):
        read(tmp_path / "a.json", ())
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "b.json", ())
