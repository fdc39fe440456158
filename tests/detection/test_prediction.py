"""Pictures through a detector to drawn copies and listings, with a stand-in for the model."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from backbones.errors import InputError
from backbones.running.outputs import Outputs
from detection import framing
from detection.framing import FoundArrays, Framed, PictureDetector, batches_of_equal_size
from detection.metrics.thresholds import thresholds_by_class, warn_of_limit
from detection.prediction.copies import Copies
from detection.prediction.listings import LISTINGS, Labelling, open_listings, read_image_ids, result_names
from detection.prediction.running import Outcome, Prediction, Settings
from detection.prediction.sources import Source, find_sources
from detection.settings import DetectorSettings, InputSettings

SETTINGS = DetectorSettings("resnet20", ("dark", "light"), (7, 3), input=InputSettings(32, 64))


class Finder(PictureDetector):
    """Finds the left half of each picture, as surely as the picture is red; its top half is the mask."""

    settings = SETTINGS
    classes = SETTINGS.classes

    def __init__(self, masks: bool = False) -> None:
        self.masks = masks

    def detect_arrays(self, images: np.ndarray, sizes: np.ndarray) -> FoundArrays:
        boxes, scores = [], []
        for image, (height, width) in zip(images, sizes, strict=True):
            boxes.append([[0, 0, width / 2, height]] * 2)
            red = float(image[:height, :width, 0].mean()) / 255
            scores.append([red, max(red / 2, 0.01)])
        grid = np.zeros((len(images), 2, 4, 4), np.float32)
        grid[:, :, :2] = 1
        return FoundArrays(
            np.array(boxes, np.float32), np.array(scores, np.float32), np.array([[1, 0]] * len(images)),
            grid if self.masks else None,
        )  # fmt: skip


def write_pictures(folder: Path, reds: dict[str, int], sizes: Sequence[tuple[int, int]] = ((40, 60),)) -> None:
    for number, (name, red) in enumerate(reds.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", sizes[number % len(sizes)], (red, 0, 0)).save(folder / name)


def look(
    folder: Path,
    output: Path,
    kinds: Sequence[str] = LISTINGS,
    masks: bool = False,
    drawn: bool = True,
    **settings: Any,
) -> Outcome:
    """Predict a folder, as the command does."""
    sources, faults = find_sources([str(folder)], None, output)
    outcome = Outcome(faults=faults)
    finder = Finder(masks)
    copies = Copies(output, finder.classes) if drawn else None
    with open_listings(kinds, output, Labelling.of(finder.settings, sources)) as listings:
        own = Settings(**{"thresholds": (0.0, 0.0), "batch_size": 3, **settings})
        Prediction(finder, own, copies, listings, outcome=outcome).run(sources)
    return outcome


def test_everything_is_written_in_the_order_of_the_files(tmp_path: Path) -> None:
    reds = {f"{number}.png": 10 * number for number in range(1, 20)}
    write_pictures(tmp_path / "in", reds, sizes=((60, 40), (40, 60), (60, 40), (50, 50), (100, 30)))
    (tmp_path / "in" / "5.png").write_bytes(b"nothing")
    outcome = look(tmp_path / "in", tmp_path / "out", thresholds=(1.0, 0.2))
    assert str(outcome) == "14 objects in 18 pictures"
    assert [str(fault) for fault in outcome.faults] == [
        f"{tmp_path}/in/5.png: not a JPEG, PNG, WEBP or BMP picture"
    ]  # fmt: skip
    content = json.loads((tmp_path / "out/detections.json").read_text())
    assert content["classes"] == ["dark", "light"]
    assert [Path(item["file"]).name for item in content["pictures"]] == [name for name in reds if name != "5.png"]
    assert content["pictures"][7] == {
        "file": f"{tmp_path}/in/9.png", "height": 50, "width": 50,
        "detections": [{"class": "light", "score": round(90 / 255, 4), "box": [0, 0, 25, 50]}],
    }  # fmt: skip
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*reds, "detections.json", "detections.csv", "coco_results.json", "coco_images.json", "labels",
                     "classes.txt"} - {"5.png"}  # fmt: skip


def test_copies_keep_their_folders_and_listings_agree(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", {"a.jpg": 200, "sub/a.png": 100, "sub/a.bmp": 150})
    look(tmp_path / "in", tmp_path / "out")
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")} == {
        "a.png", "sub/a.png", "sub/a-2.png"
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out/detections.csv").open()))
    assert list(rows[0]) == ["file", "class", "score", "x1", "y1", "x2", "y2"]
    assert [(row["class"], row["x2"]) for row in rows] == [("light", "20.0"), ("dark", "20.0")] * 3
    assert (tmp_path / "out/labels/sub/a.txt").read_text().splitlines()[0] == "1 0.250000 0.500000 0.500000 1.000000"
    assert (tmp_path / "out/classes.txt").read_text() == "dark\nlight\n"


def test_coco_reads_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path / "in", {"a.png": 200, "b/c.png": 100})
    look(tmp_path / "in", tmp_path / "out", kinds=("coco", "json"), masks=True)
    truth = COCO(str(tmp_path / "out/coco_images.json"))
    assert [image["file_name"] for image in truth.loadImgs([1, 2])] == ["a.png", "b/c.png"]
    assert truth.dataset["categories"] == [{"id": 7, "name": "dark"}, {"id": 3, "name": "light"}]
    results = truth.loadRes(str(tmp_path / "out/coco_results.json"))
    assert [item["category_id"] for item in results.dataset["annotations"]] == [3, 7, 3, 7]
    item = results.dataset["annotations"][0]
    assert item["bbox"] == [0, 0, 20, 60]
    mask = rle.decode(item["segmentation"])
    assert mask.shape == (60, 40)
    assert mask[3:28, 3:18].all()
    assert not mask[33:].any()
    written = json.loads((tmp_path / "out/detections.json").read_text())["pictures"][0]["detections"][0]["mask"]
    assert written == {"size": [60, 40], "counts": item["segmentation"]["counts"]}


def test_image_ids_come_from_a_file(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", {"a.png": 200, "b/c.png": 100})
    sources, _ = find_sources([str(tmp_path / "in")], None, tmp_path / "out")
    file = tmp_path / "ids.json"
    images = [{"id": 40, "file_name": "a.png"}, {"id": 41, "file_name": "b/c.png"}, {"id": 3, "file_name": "z.png"}]
    for content in ({"images": images, "annotations": []}, {"a.png": 40, "c.png": 41}):
        file.write_text(json.dumps(content))
        ids = read_image_ids(file, sources)
        assert [ids[source] for source in sources] == [40, 41]
    with open_listings(("coco",), tmp_path / "out", Labelling.of(SETTINGS, sources, ids)) as listings:
        Prediction(Finder(), Settings((0.5, 0.5)), None, listings).run(sources)
    results = json.loads((tmp_path / "out/coco_results.json").read_text())
    assert [item["image_id"] for item in results] == [40]
    assert not (tmp_path / "out/coco_images.json").exists()
    for text, message in (
        ('{"a.png": 1}', "1 of 2 files have no id in it, such as .*c.png"),
        ('{"a.png": 1, "c.png": 1}', "two of the files have the same id"),
        ("[1]", "expected COCO annotations"), ('{"images": [{}]}', "expected"), ("{", "expected"),
        ('{"a": "b"}', "expected"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_image_ids(file, sources)
    with pytest.raises(InputError, match="No such file"):
        read_image_ids(tmp_path / "absent.json", sources)


def test_detections_are_limited(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", {"a.png": 200})
    assert look(tmp_path / "in", tmp_path / "out").objects == 2
    assert look(tmp_path / "in", tmp_path / "out", max_detections=1).objects == 1
    assert look(tmp_path / "in", tmp_path / "out", thresholds=(0.3, math.inf)).objects == 1


def test_thresholds_of_the_model_hold_unless_one_is_given(caplog: pytest.LogCaptureFixture) -> None:
    plain = DetectorSettings("resnet20", ("cat", "dog", "crane, bird"))
    own = DetectorSettings("resnet20", plain.classes, score_thresholds=(0.2, 0.3, 0.4))
    assert thresholds_by_class(plain, None, None) == (0.5, 0.5, 0.5)
    assert thresholds_by_class(own, None, None) == (0.2, 0.3, 0.4)
    assert thresholds_by_class(own, 0.7, None) == (0.7, 0.7, 0.7)
    assert thresholds_by_class(own, 0.01, None) == (0.01, 0.01, 0.01)
    assert thresholds_by_class(own, 0, None) == (0.0, 0.0, 0.0)
    warn_of_limit(own, None)
    warn_of_limit(own, 0)
    warn_of_limit(own, 0.7)
    assert not caplog.text
    warn_of_limit(own, 0.01)
    assert "the model itself leaves out scores up to 0.05" in caplog.text
    assert thresholds_by_class(own, None, "dog, cat") == (0.2, 0.3, math.inf)
    assert thresholds_by_class(own, None, "crane, bird") == (math.inf, math.inf, 0.4)
    for threshold, chosen, message in (
        (None, "dgo", "no 'dgo' .did you mean 'dog'"), (None, "zebra", "no 'zebra'; it has cat, dog"),
        (None, ",", "name one class"), (1.5, None, "between 0 and 1"), ("0.5", None, "between"),
        (math.nan, None, "between"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            thresholds_by_class(own, threshold, chosen)


def test_copies_never_replace_what_is_read(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a.png": 200, "b.bmp": 100})
    sources, _ = find_sources([str(tmp_path / "a.png"), str(tmp_path / "b.bmp")], None, tmp_path)
    outputs = Outputs([source.path for source in sources], overwrite=True)
    with pytest.raises(InputError, match=r"a.png: is read by this command; choose another --output"):
        outputs.folder("--output", tmp_path, result_names(("pictures",), "png", sources, False))
    outputs.folder("--output", tmp_path, result_names(("pictures",), "jpg", sources, False))


def test_all_that_is_written_is_known_before(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a.png": 200})
    (tmp_path / "film.mp4").touch()
    sources, _ = find_sources([str(tmp_path / "a.png"), str(tmp_path / "film.mp4")], None, tmp_path / "out")
    kinds = ("pictures", "json", "coco", "csv", "yolo")
    assert set(result_names(kinds, "jpg", sources, own_ids=False)) == {
        "a.jpg", "film.mp4", "detections.json", "coco_results.json", "coco_images.json", "detections.csv",
        "classes.txt", "labels/a.txt", "labels/film.frames/",
    }  # fmt: skip
    assert result_names(("coco",), "png", sources, own_ids=True) == ["coco_results.json"]


def test_an_interrupted_run_lists_what_it_has_done(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", {f"{number}.png": 100 for number in range(40)})
    sources, _ = find_sources([str(tmp_path / "in")], None, tmp_path / "out")
    run: Prediction
    with open_listings(("json",), tmp_path / "out", Labelling.of(SETTINGS, sources)) as listings:
        run = Prediction(
            Finder(), Settings((0.0, 0.0), batch_size=2), Copies(tmp_path / "out", SETTINGS.classes), listings,
            interrupted=lambda: run.outcome.done >= 4,
        )  # fmt: skip
        run.run(sources)
    assert 4 <= run.outcome.done < 40
    assert len(json.loads((tmp_path / "out/detections.json").read_text())["pictures"]) == run.outcome.done
    assert len(list((tmp_path / "out").glob("*.png"))) == run.outcome.done


def test_a_failed_run_leaves_no_listings(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", {"a.png": 200})
    with (
        pytest.raises(RuntimeError),
        open_listings(("json", "coco", "csv"), tmp_path / "out", Labelling.of(SETTINGS, [])),
    ):
        raise RuntimeError
    assert not list((tmp_path / "out").iterdir())


class Count:
    """Counts pictures that are in memory when one is listed."""

    def __init__(self) -> None:
        self.most = 0

    def __call__(self, view: Any, found: Any) -> None:
        self.most = max(self.most, Held.alive)


class Held(np.ndarray):
    """A picture that knows how many there are."""

    alive = 0

    def __array_finalize__(self, other: Any) -> None:
        Held.alive += 1

    def __del__(self) -> None:
        Held.alive -= 1


def test_few_pictures_are_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(path: Path) -> np.ndarray:
        number = int(path.stem)
        return np.zeros((32, 48 if number % 50 == 0 else 32, 3), np.uint8).view(Held)

    monkeypatch.setattr("detection.prediction.running.read_image", read)
    sources = [Source(Path(f"{number}.png"), Path(f"{number}.png"), Path(str(number))) for number in range(300)]
    count = Count()
    Prediction(Finder(), Settings((0.0, 0.0), batch_size=4, workers=1), None, [count]).run(sources)
    assert 0 < count.most < 60


def test_waiting_pictures_leave_before_they_become_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def framed(number: int, size: int) -> Framed:
        return Framed(number, np.zeros((size, size, 3), np.uint8), (size, size), (size, size))

    stream = [framed(number, 16 if number % 10 == 0 else 8) for number in range(50)]
    numbers = [[item.number for item in group] for group in batches_of_equal_size(stream, 8)]
    assert numbers[0] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sorted(number for group in numbers for number in group) == list(range(50))
    assert [0, 10, 20, 30, 40] in numbers
    monkeypatch.setattr(framing, "LONGEST_WAIT", 15)
    numbers = [[item.number for item in group] for group in batches_of_equal_size(stream, 8)]
    assert [0, 10] in numbers
    monkeypatch.setattr(framing, "MOST_PIXELS", 2 * 8 * 8 * 2)  # two small pictures and their originals
    numbers = [[item.number for item in group] for group in batches_of_equal_size(stream[1:10], 8)]
    assert numbers == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
