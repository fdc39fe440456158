"""Labels for every pixel: VOC's label images, painted masks, faults by file, and planned crops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from backbones.errors import InputError
from backbones.images import read_labels, resize, resize_nearest
from detection.data import digits
from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.data.digit_files import write_voc
from detection.data.digits import compose_scene
from detection.segmentation.crops import Crop, CropPlanner, TrainingCrops, cut
from detection.segmentation.datasets import read_segmentation, refuse_faulty_labels
from detection.segmentation.drawing import palette, save_labels
from detection.segmentation.label_images import VOC_LABELS, read_label_images
from detection.segmentation.painting import paint_labels, painted
from detection.segmentation.settings import IGNORED
from tests.detection.segmentation.builders import CLASSES, few_scenes, scene, write_label_folder


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def encoded(mask: np.ndarray) -> bytes:
    return rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def test_smaller_objects_lie_over_larger_ones_and_crowds_below_all() -> None:
    small, large, crowd = rectangle(2, 2, 5, 6), rectangle(0, 0, 10, 12), rectangle(0, 10, 20, 30)
    builder = AnnotationBuilder(("a", "b", "c"))
    for mask, label, ignored in ((small, 1, False), (large, 0, False), (crowd, 2, True)):
        builder.add_object((0, 0, 1, 1), label, ignored, mask=encoded(mask))
    builder.add_object((20.5, 1, 24.5, 3), 1)  # no mask: nobody knows which of the pixels in the box
    builder.add_image("1.png", 1, (20, 30))
    expected = np.zeros((20, 30), np.uint8)
    expected[1:3, 20:25] = IGNORED
    expected[crowd] = IGNORED
    expected[large] = 1
    expected[small] = 2
    annotations = builder.build()
    assert np.array_equal(paint_labels(annotations.of(0), (20, 30)), expected)
    data = painted(DetectionData("made", annotations, [np.zeros((20, 30, 3), np.uint8)]))
    assert data.classes == ("background", "a", "b", "c")
    assert np.array_equal(data.labels[0], expected)


def test_an_image_without_objects_is_background() -> None:
    builder = AnnotationBuilder(("a",))
    builder.add_object((0, 0, 4, 4), 0, mask=encoded(rectangle(0, 0, 4, 4)))
    builder.add_image("1.png", 1, (20, 30))
    builder.add_image("2.png", 2, (5, 6))
    assert not paint_labels(builder.build().of(1), (5, 6)).any()


def test_boxes_alone_cannot_be_painted() -> None:
    builder = AnnotationBuilder(("a",))
    builder.add_object((0, 0, 4, 4), 0)
    builder.add_image("1.png", 1, (5, 6))
    with pytest.raises(InputError, match="made: there are no masks to paint labels from"):
        painted(DetectionData("made", builder.build(), []))


@pytest.fixture
def three_scenes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(digits.SCENES, "val", 3)
    digits.digit_scenes.cache_clear()
    yield
    digits.digit_scenes.cache_clear()


def test_digits_are_labelled_by_their_strokes(three_scenes: None) -> None:
    data, faults = read_segmentation("digits", "val")
    assert (len(data), faults, data.images.mirrored) == (3, [], False)
    assert data.classes == ("background", *"0123456789")
    made = compose_scene("val", 2)
    expected = np.zeros((128, 128), np.uint8)
    for label, mask in zip(made.labels, made.masks, strict=True):  # what is visible never overlaps
        expected[mask] = label + 1
    assert np.array_equal(data.labels[2], expected)


def test_a_model_with_other_classes_is_told(three_scenes: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes that the model does not know: "):
        read_segmentation("digits", "val", ("background", "cat"))
    folder = write_label_folder(tmp_path / "v", {f"p{n}": scene(n) for n in range(12)}, CLASSES)
    with pytest.raises(InputError, match=r"does not know: dark \(the model's: background, light\)"):
        read_segmentation(f"voc:{folder}", "train", ("background", "light"))
    (folder / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"does not know: aeroplane.* without a classes.txt in .* taken for VOC's"):
        read_segmentation(f"voc:{folder}", "train", ("background", "light"))
    write_voc(tmp_path / "digits", 1)
    assert read_segmentation(f"voc:{tmp_path / 'digits'}", "val")[0].classes == ("background", *"0123456789")


def voc_folder(tmp_path: Path) -> Path:
    folder = write_label_folder(tmp_path / "VOC", {f"p{n}": scene(n, (40, 50 + n)) for n in range(6)}, CLASSES)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p0\np1\np2\np5\n")
    (lists / "val.txt").write_text("p3\np4\n")
    return folder


def test_label_images_are_read_as_palette_indices(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path)
    data, faults = read_segmentation(f"voc:{folder}", "train")
    assert (faults, data.classes, len(data)) == ([], CLASSES, 4)
    assert data.images.annotations.names.tolist() == ["p0.png", "p1.png", "p2.png", "p5.png"]
    for place, number in enumerate((0, 1, 2, 5)):
        picture, labels = scene(number, (40, 50 + number))
        assert np.array_equal(data.labels[place], labels)
        assert np.array_equal(data.images.pictures[place], picture)
    swapped = read_label_images(folder, "val", ("background", "dark", "light"))[0]
    labels = scene(4, (40, 54))[1]
    assert np.array_equal(swapped.labels[1], np.array([0, 2, 1], np.uint8)[labels])


def test_without_lists_a_split_is_made_and_without_names_they_are_vocs(tmp_path: Path) -> None:
    folder = write_label_folder(tmp_path / "v", {f"p{n}": scene(n) for n in range(12)})
    parts = [read_label_images(folder, split)[0] for split in ("train", "val")]
    assert sum(len(part) for part in parts) == 12
    assert parts[0].classes == VOC_LABELS


def test_named_sets_have_label_images(tmp_path: Path) -> None:
    folder = write_label_folder(tmp_path / "VOCdevkit/VOC2012", {f"p{n}": scene(n) for n in range(12)})
    (folder / "Annotations").mkdir()
    parts = [read_segmentation("voc2012", split, data_dir=tmp_path)[0] for split in ("train", "val")]
    assert sum(len(part) for part in parts) == 12
    assert parts[0].images.made_split
    with pytest.raises(InputError, match="VOC 2007 is not in"):
        read_segmentation("voc2007", "train", data_dir=tmp_path)


def test_label_images_may_be_grey_or_have_few_bits(tmp_path: Path) -> None:
    labels = scene(0)[1]
    for number, image in enumerate((Image.fromarray(labels), Image.fromarray(labels > 0))):
        image.save(tmp_path / f"{number}.png")
    image = Image.frombytes("P", (64, 64), labels.tobytes())
    image.putpalette([200, 0, 0] * 3)
    image.save(tmp_path / "2.png", bits=2)
    assert np.array_equal(read_labels(tmp_path / "0.png"), labels)
    assert np.array_equal(read_labels(tmp_path / "1.png"), labels > 0)
    assert np.array_equal(read_labels(tmp_path / "2.png"), labels)  # one colour, three labels


def test_every_faulty_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = voc_folder(tmp_path)
    names = ["p0", "p1", "p2", "p3", "p4", "p5", "gone"]
    (folder / "ImageSets/Segmentation/all.txt").write_text("\n".join(names))
    label_images = folder / "SegmentationClass"
    Image.fromarray(scene(0)[0]).save(label_images / "p0.png")
    save_labels(label_images / "p1.png", np.zeros((41, 51), np.uint8))
    save_labels(label_images / "p2.png", np.full((40, 52), 3, np.uint8))
    (label_images / "p3.png").write_bytes((label_images / "p3.png").read_bytes()[:200])
    (folder / "JPEGImages/p4.png").unlink()
    data, faults = read_label_images(folder, "all")
    assert data.images.annotations.names.tolist() == ["p5.png"]
    told = {fault.file.removeprefix("SegmentationClass/"): fault.what for fault in faults}
    assert {fault.kind for fault in faults} == {"file"}
    assert told["p0.png"].startswith("its pixels are RGB, not labels")
    assert told["p1.png"] == "51 x 41 pixels, but its picture has 51 x 40"
    assert told["p2.png"].startswith("label 3 names no class (there are 3, and 255 for what is ignored")
    assert "decoded" in told["p3.png"]
    assert told["p4.png"] == "no picture JPEGImages/p4.jpg"
    assert told["gone.png"] == "no such file"
    with pytest.raises(InputError, match=r"p0\.png: its pixels are RGB.*, and 5 more; mend or remove them"):
        refuse_faulty_labels(faults, "voc:V")
    assert caplog.text.count("SegmentationClass/") == 6


def test_folders_of_another_kind_are_refused(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path)
    with pytest.raises(InputError, match=r"no such split \(did you mean 'train'\?\); there are train, val"):
        read_label_images(folder, "trian")
    with pytest.raises(InputError, match="there are no label images"):
        read_segmentation(f"voc:{tmp_path}", "train")
    with pytest.raises(InputError, match="no such folder"):
        read_segmentation("voc:absent", "train")
    for text in ("one\n", "a\na\n"):
        (folder / "classes.txt").write_text(text)
        with pytest.raises(InputError, match="needs 2 to 255 different names"):
            read_label_images(folder, "train")


def planner(sizes: list[tuple[int, int]], batch: int = 4, **settings: object) -> CropPlanner:
    own = {"side": 32, "shorter": (40,), "longer": 80, "scales": (0.5, 2.0), "mirrored": True, **settings}
    return CropPlanner(np.array(sizes), batch, 7, **own)  # type: ignore[arg-type]


def test_plans_are_functions_of_seed_and_step() -> None:
    sizes = [(30, 50), (60, 40), (10, 300)] * 5
    first = planner(sizes)
    plans = [first.plan(step) for step in range(60)]
    again = planner(sizes).plan(37)
    assert np.array_equal(again.images, plans[37].images)
    assert again.crops == plans[37].crops
    crops = [crop for plan in plans for crop in plan.crops]
    for crop in crops:
        assert min(crop.size) <= 80
        assert 40 <= max(crop.size) <= 160 or min(crop.size) >= 20
        assert 0 <= crop.top <= max(0, crop.size[0] - 32)
        assert 0 <= crop.left <= max(0, crop.size[1] - 32)
    assert 0.4 < np.mean([crop.mirrored for crop in crops]) < 0.6
    assert min(crop.top for crop in crops) == min(crop.left for crop in crops) == 0
    assert any(crop.top == crop.size[0] - 32 for crop in crops)
    assert not any(crop.mirrored for crop in planner(sizes, mirrored=False).plan(0).crops)


def test_pictures_and_labels_are_cut_alike() -> None:
    labels = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    picture = np.repeat(labels[..., None], 3, 2)
    for crop in (Crop((6, 8), 1, 2, False), Crop((6, 8), 1, 2, True), Crop((6, 8), 4, 6, True)):
        seen, known = cut(picture, labels, crop, 4)
        assert np.array_equal(seen[..., 0], known)
        expected = labels[crop.top : crop.top + 4, crop.left : crop.left + 4]
        assert np.array_equal(known, expected[:, ::-1] if crop.mirrored else expected)
    doubled = cut(picture, labels, Crop((12, 16), 0, 0, False), 16)[1]
    assert np.array_equal(doubled, labels.repeat(2, 0).repeat(2, 1))


def test_batches_hold_padded_crops() -> None:
    data = few_scenes(6)
    plan = CropPlanner(data.images.annotations.sizes, 6, 7, side=64, shorter=(64,), longer=64, scales=(0.5, 2.0),
                       mirrored=True)  # fmt: skip
    batch, expected = TrainingCrops(data, plan)[2], plan.plan(2)
    assert batch.images.shape == (6, 3, 64, 64)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.targets.sizes < 64).any()
    for row, (image, crop) in enumerate(zip(expected.images, expected.crops, strict=True)):
        height, width = batch.targets.sizes[row].tolist()
        part = (slice(crop.top, crop.top + 64), slice(crop.left, crop.left + 64))
        picture, labels = resize(data.images.pictures[image], crop.size)[part], data.labels[image]
        labels = resize_nearest(labels, crop.size)[part]
        turned = slice(None, None, -1 if crop.mirrored else 1)
        assert labels.shape == (height, width)
        assert np.array_equal(batch.images[row, :, :height, :width].permute(1, 2, 0).numpy(), picture[:, turned])
        assert np.array_equal(batch.targets.labels[row, :height, :width].numpy(), labels[:, turned])
        assert batch.images[row].sum() == int(picture.sum())
        assert (batch.targets.labels[row] == IGNORED).sum() == 64 * 64 - height * width


def test_processes_share_one_global_batch() -> None:
    data = few_scenes(6)
    plan = planner([(64, 64)] * 6)
    whole = TrainingCrops(data, plan)[5]
    halves = [TrainingCrops(data, plan, rank, 2)[5] for rank in range(2)]
    assert torch.equal(torch.cat([half.images for half in halves]), whole.images)
    assert torch.equal(torch.cat([half.targets.labels for half in halves]), whole.targets.labels)
    assert halves[0].numbers + halves[1].numbers == whole.numbers


def test_the_palette_is_vocs() -> None:
    colours = palette()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {label: tuple(colours[label].tolist()) for label in known} == known
