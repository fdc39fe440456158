"""Which files a command line means."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path

import pytest

from backbones.errors import InputError
from detection.prediction.sources import find_sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures in ``in``, from which the tests start."""
    names = ("a10.jpg", "a2.jpg", "._a2.jpg", ".hidden/h.jpg", "sub/x.PNG", "sp ace/ü\nn.webp", "film.mp4", "notes.txt")
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*entries: str, listing: str | None = None, output: str = "out") -> tuple[list[str], list[str]]:
    """Names and faults as text."""
    sources, faults = find_sources(entries, listing, Path(output))
    return [str(source.path) for source in sources], [str(fault) for fault in faults]


ALL = ["in/a2.jpg", "in/a10.jpg", "in/film.mp4", "in/sp ace/ü\nn.webp", "in/sub/x.PNG"]


def test_folders_are_searched_in_natural_order(folder: Path) -> None:
    assert found("in") == (ALL, [])
    sources, _ = find_sources(["in"], None, Path("out"))
    assert [str(source.name) for source in sources] == [name.removeprefix("in/") for name in ALL]
    assert [source.is_video for source in sources] == [False, False, True, False, False]


@pytest.mark.parametrize("entry", ["in", "in/**/*"])
def test_what_is_not_read_is_counted_by_suffix(folder: Path, caplog: pytest.LogCaptureFixture, entry: str) -> None:
    """In one line of each folder; neither hidden files nor what an earlier run wrote."""
    logging.getLogger("shortcut").propagate = True
    for name in ("a.HEIC", "sub/b.heic", "c.tiff", "README", ".x.heic", "out/d.heic", "out/detections.json"):
        (folder / "in" / name).parent.mkdir(exist_ok=True)
        (folder / "in" / name).touch()
    assert found(entry, "in/a2.jpg", output="in/out") == (ALL, [])
    assert caplog.messages == [f"{entry}: 5 files are not read (.heic 2, .tiff 1, .txt 1, no suffix 1)"]
    caplog.clear()
    (folder / "in/sub/b.heic").unlink()
    assert found("in/sub", "in/a.HEIC")[1] == [] and not caplog.messages


def test_links_are_followed_and_loops_end(folder: Path) -> None:
    (folder / "in/self").symlink_to(".")
    (folder / "in/sub/up").symlink_to("../..")
    (folder / "far").mkdir()
    (folder / "far/y.jpg").touch()
    (folder / "in/far").symlink_to("../far")
    (folder / "l1").symlink_to("l2")
    (folder / "l2").symlink_to("l1")
    assert found("in")[0] == [*ALL[:2], "in/far/y.jpg", *ALL[2:]]
    assert found("in/**/*.jpg")[0] == ["in/a2.jpg", "in/a10.jpg"]
    assert found("l1", "l1/a.jpg")[1] == ["l1: not a file", "l1/a.jpg: no such file"]


def test_patterns(folder: Path) -> None:
    assert found("in/**/*.*")[0] == ALL
    assert found(f"{folder}/in/a*.jpg")[0] == [f"{folder}/in/a2.jpg", f"{folder}/in/a10.jpg"]
    sources, _ = find_sources(["*/sub/*"], None, Path("out"))
    assert [str(source.name) for source in sources] == ["in/sub/x.PNG"]
    assert found("in/*.tif", "in/**x", "in/a[2") == (
        [],
        [
            "in/*.tif: no pictures or videos match this pattern",
            "in/**x: not a pattern (Invalid pattern: '**' can only be an entire path component)",
            "in/a[2: no pictures or videos match this pattern",
        ],
    )  # fmt: skip
    (folder / "in/a[2.jpg").touch()
    assert found("in/a[2.jpg")[0] == ["in/a[2.jpg"]  # a file of this name comes first


def test_each_file_is_taken_once(folder: Path) -> None:
    assert found("in/a10.jpg", "in", "in/sub/../a2.jpg", "in/*.jpg")[0] == ["in/a10.jpg", "in/a2.jpg", *ALL[2:]]
    assert found("in", "in")[1] == []
    (folder / "in/b.jpg").symlink_to("a2.jpg")  # another picture, as far as names tell
    assert len(found("in")[0]) == 6


def test_what_is_no_file_is_named(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "dangling.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    names, faults = found("absent.jpg", "empty", "dangling.jpg", "pipe.jpg", "x" * 300, "in/notes.txt")
    assert names == ["in/notes.txt"]
    assert faults == [
        "absent.jpg: no such file",
        "empty: no pictures or videos in this folder",
        "dangling.jpg: not a file",
        "pipe.jpg: not a file",
        f"{'x' * 300}: no such file",
    ]


def test_lists_of_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list.txt").write_text("in/a10.jpg\n\nin/a2.jpg\r\nabsent.jpg\n")
    assert found(listing="list.txt") == (["in/a10.jpg", "in/a2.jpg"], ["absent.jpg: no such file"])
    standard_input = io.TextIOWrapper(io.BytesIO("in/sp ace/ü\nn.webp\0in/a2.jpg\0".encode()))
    monkeypatch.setattr(sys, "stdin", standard_input)
    assert found("in/a10.jpg", "-")[0] == ["in/a10.jpg", "in/sp ace/ü\nn.webp", "in/a2.jpg"]
    Path("list.txt").write_text("\n")
    for listing, message in (("absent", "--list absent: No such file"), ("list.txt", "list.txt names no files")):
        with pytest.raises(InputError, match=message):
            found(listing=listing)
    with pytest.raises(InputError, match="nothing to detect in"):
        found()


def test_what_an_earlier_run_drew_is_no_input(folder: Path) -> None:
    (folder / "in/found/sub").mkdir(parents=True)
    (folder / "in/found/sub/a2.png").touch()
    assert found("in", "in/**/*.png", output="in/found")[0] == ALL
    assert found("in/found", output="in/found/again")[0] == ["in/found/sub/a2.png"]
    for output in ("in", str(folder / "in"), "in/../in"):
        with pytest.raises(InputError, match="this folder is read"):
            found("in", output=output)
    assert found("in/a2.jpg", output="in")[0] == ["in/a2.jpg"]


def test_stems_are_distinct_and_not_too_long(folder: Path) -> None:
    for name in ("a2.png", "A2.bmp", "sub/a2.jpg", f"{'ü' * 120}.jpg"):
        (folder / "in" / name).touch()
    sources, _ = find_sources(["in", "in/sub/a2.jpg"], None, Path("out"))
    stems = [str(source.stem) for source in sources]
    assert len({stem.casefold() for stem in stems}) == len(sources) == 9
    assert {"A2", "a2-2", "a2-3", "sub/a2", "sub/x"} <= {*stems}
    assert max(len(os.fsencode(stem)) for stem in stems) <= 210
