"""Classification data: the original archives, arrays, folders, tars; each checked before it is used."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.data import cifar10, decoding
from backbones.data.cifar10 import read_cifar10
from backbones.data.datasets import read_classification
from backbones.data.decoding import decode
from backbones.data.imagenet import read_imagenet
from backbones.errors import InputError
from backbones.images import read_image
from backbones.running.keyed_random import generator

PER_BATCH = 20


def pixels(seed: int, *shape: int) -> np.ndarray:
    return generator(seed).integers(0, 256, shape).astype(np.uint8)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def make_cifar(folder: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """An archive of the published form with few pictures; its MD5 takes the place of the published one."""
    archive = getattr(cifar10, form)
    images, labels = pixels(0, 6 * PER_BATCH, 32, 32, 3), generator(1).integers(0, 10, 6 * PER_BATCH)
    flat = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    with tarfile.open(folder / archive.name, "w:gz") as tar:
        for number, name in enumerate((*archive.train, archive.test)):
            part = slice(number * PER_BATCH, (number + 1) * PER_BATCH)
            if form == "BINARY":
                content = np.concatenate((labels[part, None].astype(np.uint8), flat[part]), 1).tobytes()
            else:
                content = pickle.dumps({b"data": flat[part], b"labels": labels[part].tolist()}, protocol=2)
            add(tar, name, content)
    digest = hashlib.md5((folder / archive.name).read_bytes()).hexdigest()
    fields = {**vars(archive), "md5": digest}
    replaced = cifar10.Archive(**fields)
    monkeypatch.setattr(cifar10, form, replaced)
    return images, labels


@pytest.mark.parametrize("form", ["BINARY", "PYTHON"])
def test_the_original_archives_are_read(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_cifar(tmp_path, form, monkeypatch)
    test = read_cifar10(tmp_path, "test")
    assert np.array_equal(test.images, images[5 * PER_BATCH :])
    assert np.array_equal(test.labels, labels[5 * PER_BATCH :])
    everything = read_cifar10(tmp_path, "trainval")
    assert np.array_equal(everything.images, images[: 5 * PER_BATCH])
    train, val = read_cifar10(tmp_path, "train"), read_cifar10(tmp_path, "val")
    assert (len(train.labels), len(val.labels)) == (90, 10), "nine parts to train on, one to choose by"
    rows = {row.tobytes() for row in np.concatenate((train.images, val.images)).reshape(100, -1)}
    assert rows == {row.tobytes() for row in everything.images.reshape(100, -1)}
    assert test.classes[3] == "cat"


def test_an_altered_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cifar(tmp_path, "BINARY", monkeypatch)
    path = tmp_path / cifar10.BINARY.name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="the published archive has"):
        read_cifar10(tmp_path, "train")


def test_a_missing_archive_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cifar-10-binary.tar.gz .* --download"):
        read_classification("cifar10", "train", data_dir=str(tmp_path))
    with pytest.raises(InputError, match="no split 'dev'"):
        read_classification("cifar10", "dev", data_dir=str(tmp_path))


def test_downloads_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cifar(tmp_path, "BINARY", monkeypatch)
    monkeypatch.setattr(cifar10, "ADDRESS", tmp_path.as_uri())
    fetched = read_classification("cifar10", "test", data_dir=str(tmp_path / "new"), fetch=True)
    assert len(fetched.labels) == PER_BATCH
    monkeypatch.setattr(cifar10, "ADDRESS", (tmp_path / "absent").as_uri())
    with pytest.raises(InputError, match="can't be fetched"):
        read_classification("cifar10", "test", data_dir=str(tmp_path / "other"), fetch=True)
    assert not list((tmp_path / "other").rglob("*.gz*"))


def test_npz_files_are_divided_alike(tmp_path: Path) -> None:
    images, labels = pixels(2, 40, 8, 8, 3), np.arange(40) % 4
    np.savez(tmp_path / "all.npz", images=images, labels=labels, classes=np.array(list("abcd")))
    name = f"npz:{tmp_path / 'all.npz'}"
    train, val = (read_classification(name, split) for split in ("train", "val"))
    assert (len(train.labels), len(val.labels), train.classes) == (36, 4, ("a", "b", "c", "d"))
    assert np.array_equal(read_classification(name, "all").images, images)
    with pytest.raises(InputError, match="no split 'test'"):
        read_classification(name, "test")


def test_npz_folders_have_their_own_splits(tmp_path: Path) -> None:
    for split, count in (("train", 30), ("test", 10)):
        np.savez(tmp_path / f"{split}.npz", images=pixels(3, count, 8, 8, 3), labels=np.arange(count) % 3)
    sizes = {s: len(read_classification(f"npz:{tmp_path}", s).labels) for s in ("train", "val", "trainval", "test")}
    assert sizes == {"train": 27, "val": 3, "trainval": 30, "test": 10}
    with pytest.raises(InputError, match=r"no dev\.npz"):
        read_classification(f"npz:{tmp_path}", "dev")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 3), np.uint8)}, "images and labels"),
        ({"images": np.zeros((2, 4, 4, 3)), "labels": np.zeros(2)}, "must be uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, "must be uint8"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(3)}, "2 images and 3 labels"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8), "labels": np.zeros(0)}, "0 images"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.array([0, -1])}, "labels from -1"),
        ({"images": np.zeros((1, 4, 4, 3), np.uint8), "labels": np.array([{}], object)}, "not a complete .npz"),
    ],
)
def test_bad_arrays_are_refused(content: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(InputError, match=message):
        read_classification(f"npz:{tmp_path / 'x.npz'}", "all")


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK nonsense")
    for name in ("x.npz", "absent.npz"):
        with pytest.raises(InputError, match=name):
            read_classification(f"npz:{tmp_path / name}", "all")


def test_unknown_names_are_corrected() -> None:
    with pytest.raises(InputError, match="did you mean 'cifar10'"):
        read_classification("cifar-10", "train")


def save_jpeg(path: Path, seed: int, size: tuple[int, int] = (40, 50)) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, *size, 3)).save(path, "JPEG")
    return path.read_bytes()


def test_folders_have_splits_or_get_them(tmp_path: Path) -> None:
    for number in range(30):
        save_jpeg(tmp_path / "flat" / "ab"[number % 2] / f"{number}.jpg", number)
    whole = read_classification(f"folder:{tmp_path / 'flat'}", "all")
    train, val = (read_classification(f"folder:{tmp_path / 'flat'}", split) for split in ("train", "val"))
    assert len(train.labels) + len(val.labels) == len(whole.labels) == 30
    assert not set(train.names.tolist()) & set(val.names.tolist())
    save_jpeg(tmp_path / "split" / "train" / "b" / "0.jpg", 0)
    save_jpeg(tmp_path / "split" / "train" / "a" / "0.jpg", 0)
    save_jpeg(tmp_path / "split" / "val" / "b" / "0.jpg", 1)
    val = read_classification(f"folder:{tmp_path / 'split'}", "val")
    assert (val.classes, val.labels.tolist()) == (("a", "b"), [1]), "classes are the training set's"
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        read_classification(f"folder:{tmp_path / 'split'}", "test")


def make_imagenet_tars(folder: Path) -> list[bytes]:
    """Three pictures of two classes to train on, three to validate, and a development kit."""
    from scipy.io import savemat

    contents = [save_jpeg(folder / "x" / f"{number}.jpg", number) for number in range(6)]
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for wnid, members in (("n02", contents[:1]), ("n01", contents[1:3])):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for number, content in enumerate(members):
                    add(tar, f"{wnid}_{number}.JPEG", content)
            add(outer, f"./{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for number in (2, 1, 3):  # not in the order of their names
            add(tar, f"ILSVRC2012_val_{number:08}.JPEG", contents[2 + number])
    synsets = np.array(
        [(1, "n02", 0), (2, "n01", 0), (3, "n00", 2)],
        dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "U9"), ("num_children", "i4")],
    )
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        add(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", b"1\n2\n1\n")
    return contents


def test_imagenet_is_read_from_the_official_tars(tmp_path: Path) -> None:
    contents = make_imagenet_tars(tmp_path)
    for _ in range(2):  # the second time by the index
        train = read_imagenet(tmp_path, "train")
        assert (train.classes, train.labels.tolist()) == (("n01", "n02"), [1, 0, 0])
        assert [train.content(number) for number in range(3)] == contents[:3]
        (tmp_path / "ILSVRC2012_img_train.index.npz").write_bytes(b"damaged")
    assert np.array_equal(train.picture(2), read_image(contents[2]))
    assert train.name(1).endswith("ILSVRC2012_img_train.tar: n01.tar/n01_0.JPEG")
    val = read_imagenet(tmp_path, "val")
    assert [val.content(number) for number in range(3)] == [contents[4], contents[3], contents[5]]
    assert val.labels.tolist() == [0, 1, 1], "the truth is in the order of the names; id 1 is n02"
    assert train.subset(np.array([2])).content(0) == contents[2]


def test_imagenet_without_its_files_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a folder train nor ILSVRC2012_img_train\.tar"):
        read_imagenet(tmp_path, "train")
    with pytest.raises(InputError, match="no split 'test'"):
        read_imagenet(tmp_path, "test")
    make_imagenet_tars(tmp_path)
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    with pytest.raises(InputError, match="holds the labels"):
        read_imagenet(tmp_path, "val")
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not the development kit"):
        read_imagenet(tmp_path, "val")
    tar = tmp_path / "ILSVRC2012_img_train.tar"
    tar.write_bytes(tar.read_bytes()[:900])
    with pytest.raises(InputError, match=r"not a complete tar file|holds no pictures"):
        read_imagenet(tmp_path, "train")


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(9, 37, 53, 3)).convert(mode).save(stream, form, **options)
    return stream.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6  # rotated by a quarter

PICTURES = {
    "plain": encoded("JPEG"),
    "full colour resolution": encoded("JPEG", subsampling=0, quality=97),
    "progressive": encoded("JPEG", progressive=True),
    "greyscale": encoded("JPEG", "L"),
    "CMYK": encoded("JPEG", "CMYK"),
    "rotated": encoded("JPEG", exif=EXIF),
    "PNG": encoded("PNG"),
    "named .JPEG": encoded("PNG"),
}


@pytest.mark.parametrize("library", [True, False], ids=["simplejpeg", "pillow alone"])
@pytest.mark.parametrize("kind", PICTURES)
def test_fast_decoding_is_bit_for_bit_the_reference(kind: str, library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if library:
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    assert np.array_equal(decode(PICTURES[kind], "x"), read_image(PICTURES[kind]))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no", PICTURES["plain"][:-200], PICTURES["PNG"][:50]])
def test_damaged_pictures_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(InputError, match="x: "):
        decode(content, "x")


def test_real_photographs_decode_alike(shared_data: Path) -> None:
    pytest.importorskip("simplejpeg")
    for path in sorted((shared_data / "imagenet60").rglob("*.JPEG"))[:30]:
        assert np.array_equal(decode(path.read_bytes(), path.name), read_image(path)), path.name


def test_a_folder_without_its_layout_is_told_what_to_put_in_front(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="say --dataset folder:"):
        read_classification(str(tmp_path), "train")
    with pytest.raises(InputError, match="no such file or folder"):
        read_classification(f"npz:{tmp_path / 'absent'}", "train")
    (tmp_path / "a.txt").write_text("hi")
    with pytest.raises(InputError, match=r"write it with numpy\.savez$"):
        read_classification(f"npz:{tmp_path / 'a.txt'}", "train")
