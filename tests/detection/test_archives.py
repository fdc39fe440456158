"""Archives of named sets: fetched, checked, unpacked safely, and not again."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from backbones.errors import InputError
from detection.data import archives
from detection.data.archives import COCO_ARCHIVES, VOC_ARCHIVES, Archive, download_dataset, unpack
from detection.data.named import COCO_YEARS, VOC_PARTS


def make_zip(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


def make_tar(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def published(path: Path, proof: str, files: int = 1, prefix: str = "") -> Archive:
    return Archive(path.as_uri(), hashlib.md5(path.read_bytes()).hexdigest(), proof, files, prefix)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archives of two pictures and of lists, in the place of the published ones; the folder to unpack into."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    coco = (
        published(make_zip(shelf / "a.zip", annotations__train="{}", annotations__val="{}"), "annotations/train"),
        published(make_zip(shelf / "b.zip", val__1="x", val__2="y"), "val", 2),
    )
    voc = tuple(
        published(
            make_tar(shelf / f"{name}.tar", **{f"V__Y__lists__{name}": "1", f"V__Y__pictures__{name}": "x"}),
            f"lists/{name}", prefix="V/Y/",
        )
        for name in ("trainval", "test")
    )  # fmt: skip
    monkeypatch.setattr(archives, "COCO_ARCHIVES", {2017: coco})
    monkeypatch.setattr(archives, "VOC_ARCHIVES", {2007: voc})
    return tmp_path / "data"


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_sets_are_fetched_once_and_archives_removed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    real = archives.download
    monkeypatch.setattr(
        archives, "download", lambda address, *rest: fetched.append(address[-5:]) or real(address, *rest)
    )
    download_dataset("coco", tiny)
    assert names_below(tiny) == ["coco/annotations/train", "coco/annotations/val", "coco/val/1", "coco/val/2"]
    (tiny / "coco/val/1").unlink()
    download_dataset("coco", tiny)
    assert (tiny / "coco/val/1").read_text() == "x"
    download_dataset("voc2007", tiny)
    assert names_below(tiny / "VOCdevkit/VOC2007") == [
        "lists/test", "lists/trainval", "pictures/test", "pictures/trainval"
    ]  # fmt: skip
    assert fetched == ["a.zip", "b.zip", "b.zip", "l.tar", "t.tar"]


def test_archives_that_lie_there_are_checked_and_taken(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.mkdir()
    shelf = tiny.parent / "shelf"
    for name in ("a.zip", "b.zip"):
        (shelf / name).rename(tiny / name)
    content = (tiny / "b.zip").read_bytes()
    (tiny / "b.zip").write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"b.zip: MD5 .* damaged or altered"):
        download_dataset("coco", tiny)
    (tiny / "b.zip").write_bytes(content)
    monkeypatch.setenv("DATA_DIR", str(tiny))
    download_dataset("coco")
    assert names_below(tiny) == ["coco/annotations/train", "coco/annotations/val", "coco/val/1", "coco/val/2"]


def test_without_network_there_is_one_line(tiny: Path) -> None:
    (tiny.parent / "shelf" / "a.zip").unlink()
    with pytest.raises(InputError, match=r"a.zip can't be fetched .*; put the file at .*data/a.zip yourself"):
        download_dataset("coco", tiny)
    with pytest.raises(InputError, match=r"voc:x has no public address; those that have one: coco, coco2014, voc2007"):
        download_dataset("voc:x", tiny)


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "C:/out", "a\\..\\out"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_lead_out_are_refused(make: object, name: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.zip" if make is make_zip else "a.tar")
    make(path, good="1", **{name: "2"})  # type: ignore[operator]
    folder = tmp_path / "deep" / "set"
    with pytest.raises(InputError, match="leads out of the folder; not unpacked"):
        unpack(path, folder, published(path, "good"))
    assert names_below(tmp_path) == [path.name], "nothing is left half-unpacked"


def test_links_and_damage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    with pytest.raises(InputError, match="link is a link or a device"):
        unpack(path, tmp_path / "set", published(path, "link"))
    for name in ("b.zip", "b.tar"):
        (tmp_path / name).write_bytes(b"nothing at all" * 100)
        with pytest.raises(InputError, match="can't be unpacked"):
            unpack(tmp_path / name, tmp_path / "set", published(tmp_path / name, "x"))
    path = make_zip(tmp_path / "c.zip", other="1")
    with pytest.raises(InputError, match=r"unpacked, but .*x is not complete; it is another archive"):
        unpack(path, tmp_path / "set", published(path, "x"))


def test_every_named_set_has_archives() -> None:
    years = {year for parts in VOC_PARTS.values() for split in parts.values() for year, _ in split}
    assert set(VOC_ARCHIVES) == years
    assert set(COCO_ARCHIVES) == set(COCO_YEARS.values())
    every = [archive for table in (COCO_ARCHIVES, VOC_ARCHIVES) for group in table.values() for archive in group]
    assert all(archive.address.startswith("https://") and len(archive.md5) == 32 for archive in every)
    assert len({archive.md5 for archive in every}) == len(every)
