"""Limits, login and leftovers, apart from the page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from backbones.errors import InputError
from demo.app import PageOptions
from demo.safety.limits import Limits
from demo.safety.login import login_check, read_logins
from demo.safety.temporary_files import sweep, temporary_folder
from demo.safety.uploads import Upload, read_upload, read_uploads, safe_name


def picture(folder: Path, width: int = 30, height: int = 20, name: str = "a.png") -> Upload:
    Image.new("RGB", (width, height)).save(folder / name)
    return Upload.of(str(folder / name))


def test_uploads_are_read_within_limits(tmp_path: Path) -> None:
    sent = read_upload(picture(tmp_path), Limits())
    assert sent.size == (20, 30) and sent.pixels(Limits()).shape == (20, 30, 3)
    for limits, message in ((Limits(file_bytes=50), "MB are taken"), (Limits(pixels=599), "more than the 599")):
        with pytest.raises(InputError, match=message):
            read_upload(picture(tmp_path), limits)
    with pytest.raises(InputError, match="no longer here"):
        read_upload(Upload(tmp_path / "gone.png", "gone.png"), Limits())


def test_several_uploads_have_limits_together(tmp_path: Path) -> None:
    uploads = [picture(tmp_path, name=f"{number}.png") for number in range(3)]
    assert [sent.name for sent in read_uploads(uploads, Limits())] == ["0.png", "1.png", "2.png"]
    with pytest.raises(InputError, match="at most 2 are taken at once"):
        read_uploads(uploads, Limits(pictures=2))
    with pytest.raises(InputError, match="together more than"):
        read_uploads(uploads, Limits(pixels=600))


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a b.png", "a b.png"), ("../../x.html", "x.html"), ("c:\\x.png", "x.png"), ("<b>.png", "_b_.png"),
     ("..", "picture"), ("x" * 99 + ".png", "x" * 56 + ".png")],
)  # fmt: skip
def test_names_become_harmless(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_logins_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "visitors.txt"
    path.write_text("# who\nann:correct horse\n\nbob:with:colon:1\n")
    path.chmod(0o600)
    check = login_check(read_logins(path))
    assert check("ann", "correct horse") and check("bob", "with:colon:1")
    assert not check("ann", "wrong") and not check("nobody", "") and not check("nobody", "correct horse")


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("ann:correct horse", 0o644, "others may read it; chmod 600"),
        ("ann", 0o600, ":1: expected name:password"),
        ("ann:short", 0o600, ":1: expected name:password"),
        ("# nobody", 0o600, "names nobody"),
    ],
)
def test_login_files_of_another_form_are_refused(tmp_path: Path, text: str, mode: int, message: str) -> None:
    path = tmp_path / "visitors.txt"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(InputError, match=message):
        read_logins(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_logins(tmp_path / "absent.txt")


def test_what_is_old_is_swept(tmp_path: Path) -> None:
    for name in ("old/a.png", "kept/b.png", "new/c.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    sweep(tmp_path, 3600)
    assert len(list(tmp_path.rglob("*.png"))) == 3
    kept = frozenset({tmp_path / "kept/b.png"})
    sweep(tmp_path, -1, kept)
    assert list(tmp_path.rglob("*.png")) == [tmp_path / "kept/b.png"]
    sweep(tmp_path, -1, kept)
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}


def test_the_temporary_folder_goes_with_its_block() -> None:
    before = os.environ.get("GRADIO_TEMP_DIR")
    with temporary_folder() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "x").write_bytes(b"")
    assert not folder.exists() and os.environ.get("GRADIO_TEMP_DIR") == before


def test_limits_must_be_positive() -> None:
    with pytest.raises(InputError, match="--max-seconds 0: must be above 0"):
        PageOptions(max_seconds=0)
