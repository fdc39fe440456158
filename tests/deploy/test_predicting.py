"""One picture is one picture, and what counts as found is one rule: of every model, trained and exported."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from backbones.building import build_backbone
from backbones.classification import Classification
from backbones.classifier import Classifier
from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.metadata import Exported, ModelMetadata
from backbones.normalization import Normalize
from deploy.runtimes import load_runtime, runtime_of
from detection.detections import Detections
from detection.improvements.framed_views import ViewSettings
from detection.improvements.improved_detector import ImprovedDetector
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import SegmenterSettings
from detection.settings import DetectorSettings, InputSettings
from tests.deploy import stand_in_models
from tests.detection.builders import small_detector
from tests.detection.segmentation.builders import small_segmenter

CLASSES = ("cat", "dog", "owl")
STORED = (0.3, 0.9, 0.1)
SETTINGS = DetectorSettings("resnet20", CLASSES, (7, 3, 9), input=InputSettings(64, 96), score_thresholds=STORED)
CONVENTION = InputConvention((100.0,) * 3, (50.0,) * 3, size=(32, 32))
PICTURE = np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8)


@dataclass
class StandIn:
    """A session of which nothing but its interface is real."""

    metadata: ModelMetadata
    engine: str = "none"
    outputs: list[str] = field(default_factory=list)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        light = inputs["images"].mean((1, 2, 3)) / 255
        count, (height, width) = len(light), inputs["images"].shape[1:3]
        if self.metadata.task == "classification":
            return {"logits": light[:, None] * np.array([[1.0, 2, 3]])}
        if self.metadata.task == "segmentation":
            scores = np.broadcast_to(light[:, None, None], (count, height, width)).astype(np.float32)
            return {"labels": (inputs["images"][..., 0] // 100).astype(np.int64), "scores": scores}
        boxes = np.tile(np.array([[4, 4, 20, 30]], np.float32), (count, 6, 1))
        scores = (light[:, None] * np.array([[1.9, 1.5, 1.2, 0.7, 0.3, 0.1]])).astype(np.float32)
        return {"boxes": boxes, "scores": scores, "labels": np.tile(np.arange(6) % 3, (count, 1)),
                "exact": np.ones(count, bool)}  # fmt: skip


def exported(task: str, convention: InputConvention = CONVENTION, **more: Any) -> Any:
    architecture = SETTINGS if task == "detection" else SegmenterSettings("resnet20", CLASSES, input=SETTINGS.input)
    facts = Exported(precision="fp32", flavour="portable", outputs=(), resize="", **more)
    about = ModelMetadata(
        task=task, architecture=architecture.to_dict(), classes=CLASSES, input=convention, exported=facts
    )
    return runtime_of(StandIn(about))


def trained_classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier("resnet20", build_backbone("resnet20", 3), Normalize(CONVENTION), CLASSES).eval()


def trained_detector() -> Any:
    return small_detector(classes=CLASSES, score_thresholds=STORED)


VIEWS: dict[str, Any] = {"maxout": [], "scales": [], "flip": False}
DETECTORS: dict[str, Callable[[], Any]] = {
    "trained detector": trained_detector,
    "ensemble": lambda: ImprovedDetector([trained_detector()] * 2, ViewSettings()),
    "views": lambda: ImprovedDetector([trained_detector()], ViewSettings(flip=True)),
    "exported detector": lambda: exported("detection"),
    "exported views": lambda: exported("detection", views=VIEWS),
}
KINDS = DETECTORS | {
    "trained segmenter": small_segmenter,
    "exported segmenter": lambda: exported("segmentation"),
    "trained classifier": trained_classifier,
    "exported classifier": lambda: exported("classification"),
}


@cache
def model_of(kind: str) -> Any:
    return KINDS[kind]()


def everything(model: Any) -> dict[str, float]:
    """So that detectors give something to compare."""
    return {"threshold": 0} if hasattr(model, "predict_each") and hasattr(model.settings, "score_thresholds") else {}


def values(result: Any) -> list[NDArray[Any]]:
    """The numbers of a result."""
    names = {
        Detections: ("boxes", "scores", "labels"), SegmentationMap: ("labels", "scores"),
        Classification: ("probabilities",),
    }[type(result)]  # fmt: skip
    return [np.asarray(getattr(result, name)) for name in names]


@pytest.mark.parametrize("kind", KINDS)
def test_one_picture_gives_one_result_and_a_sequence_a_list(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    forms = [
        PICTURE, str(tmp_path / "a.png"), tmp_path / "a.png", stream.getvalue(), Image.fromarray(PICTURE),
        torch.from_numpy(PICTURE).permute(2, 0, 1),
    ]  # fmt: skip
    settings = everything(model)
    listed = model.predict(forms, 4, **settings)
    assert isinstance(listed, list) and len(listed) == len(forms)
    for form, one in zip(forms, listed, strict=True):
        alone = model.predict(form, **settings)
        assert type(alone) is type(one)
        for a, b, first in zip(values(alone), values(one), values(listed[0]), strict=True):
            assert a.size
            np.testing.assert_allclose(a, b, atol=1e-3)
            np.testing.assert_allclose(a, first, atol=1e-3)
    assert len(model.predict((PICTURE,), **settings)) == len(model.predict([PICTURE], **settings)) == 1
    assert model.predict([]) == model.predict(()) == []
    assert listed[0].classes == tuple(model.classes)
    if not isinstance(listed[0], Classification):
        assert all(result.source is form for result, form in zip(listed[:5], forms[:5], strict=True))
        assert listed[5].draw().shape == PICTURE.shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (None, "NoneType is no picture"),
        (np.zeros((2, 8, 8, 3), np.uint8), "stack of pictures; give them as a sequence"),
        (np.zeros((8, 8, 3)), "pixels are float64; give uint8"),
        ([b"", 3], "picture 1: int is no picture"),
        ("absent.jpg", "absent.jpg: no such file"),
    ],
)
def test_anything_else_gets_one_sentence(kind: str, pictures: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model_of(kind).predict(pictures)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_a_sequence_and_wrong_numbers_are_named(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    (tmp_path / "torn.jpg").write_bytes(b"xx")
    for pictures, message in (
        ([PICTURE, b"xx"], "picture 1: not a JPEG"), ([tmp_path / "torn.jpg"], "torn.jpg: not a JPEG"),
        ([tmp_path], "is a folder; name the pictures in it"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            model.predict(pictures)
    for size in (0, -1, "8", None):
        with pytest.raises(InputError, match=r"batch_size .*: give a whole number of at least 1"):
            model.predict(PICTURE, size)
    if kind not in DETECTORS:
        with pytest.raises(InputError, match=r"threshold: a .* (its probability|every pixel); leave it out"):
            model.predict(PICTURE, threshold=0.5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("exported")])
def test_a_service_gives_what_the_runtime_gives(kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "PNG")
    pytest.importorskip("tritonclient", reason="needs the extra serve")
    from deploy.serving.service import Service

    model = model_of(kind)
    answer, refused = Service(model, 10_000).answer([stream.getvalue(), b"xx"])
    assert isinstance(refused, InputError) and not isinstance(answer, InputError)
    wanted = model.predict(PICTURE, **everything(model))
    assert answer.size == (60, 50)
    for a, b in zip(values(answer.found), values(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


DAMAGED = {
    "no settings": ({"architecture": {}}, "missing 2 required"),
    "another task's": ({"task": "segmentation"}, "category_ids"),
    "fewer names": ({"classes": ["cat"]}, "the numbers of its classes"),
    "fewer thresholds": ({"score_thresholds": [0.5]}, "the numbers of its classes"),
    "no thresholds": ({"score_thresholds": ["a", "b", "c"]}, "score_thresholds"),
    "not a number": ({"score_thresholds": [math.nan] * 3}, "score_thresholds"),
    "no version": ({"format": True}, "no format"),
}


@pytest.mark.parametrize("change", DAMAGED)
def test_settings_that_no_version_wrote_are_one_line(change: str, tmp_path: Path) -> None:
    changed, message = DAMAGED[change]
    model = onnx.load(stand_in_models.write_detector(tmp_path / "a.onnx"))
    about = json.loads(model.metadata_props[0].value)
    about["architecture"] |= {name: changed[name] for name in changed if name not in about}
    model.metadata_props[0].value = json.dumps(about | {name: changed[name] for name in changed if name in about})
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(InputError, match=rf"a.onnx: its metadata are damaged \(.*{message}") as caught:
        load_runtime(tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", DETECTORS)
def test_detectors_give_what_counts_as_found(kind: str) -> None:
    """An explicit threshold, else those that the model stores; 0 gives all, and so does ``predict_each``."""
    model = model_of(kind)
    [(_, every)] = list(model.predict_each([PICTURE]))
    assert len(every) and every.classes == CLASSES
    for threshold, least in ((None, STORED), (0, 0), (0.0, 0), (0.35, 0.35), (1, 1)):
        found, wanted = model.predict(PICTURE, threshold=threshold), every.above(least)
        for a, b in zip(values(found), values(wanted), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)
    assert len(model.predict(PICTURE, 8, 0)) == len(every)
    for number in (np.float32(0.5), np.array(0.5), np.float64(0.5), torch.tensor(0.5)):
        assert len(model.predict(PICTURE, threshold=number)) == len(every.above(0.5))
    for threshold in (-0.1, 1.5, float("nan"), "high", "0.5", True, (0.5, 0.5, 0.5), np.array([0.5])):
        with pytest.raises(InputError, match="scores lie between 0 and 1"):
            model.predict(PICTURE, threshold=threshold)


def test_without_stored_thresholds_it_is_a_half() -> None:
    runtime = exported("detection")
    runtime.settings = DetectorSettings("resnet20", CLASSES, input=SETTINGS.input)
    scores = runtime.predict(PICTURE, threshold=0).scores
    assert runtime.predict(PICTURE).scores.tolist() == scores[scores >= 0.5].tolist() != scores.tolist()


def test_results_carry_the_ids_of_the_files_that_the_model_was_trained_on() -> None:
    found = exported("detection").predict(PICTURE, threshold=0)
    assert [row["category_id"] for row in found.to_coco(4)] == [7, 3, 9, 7, 3, 9]
    assert found.size == (60, 50)


def test_a_classifiers_results_are_an_array_together() -> None:
    runtime = model_of("exported classifier")
    pictures = [np.full((40, 40, 3), value, np.uint8) for value in (0, 100, 250)]
    found = runtime.predict(pictures, batch_size=2)
    together = np.stack(found)
    assert together.shape == np.asarray(found).shape == (3, 3) and together.dtype == np.float32
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-6)
    best, score = found[2].top(1)[0]
    assert (best, score) == ("owl", pytest.approx(float(together[2, 2])))
    assert [item["class"] for item in found[2].to_json()] == ["owl", "dog", "cat"]
    assert found[2].to_json(1) == [{"class": "owl", "score": round(score, 4)}]
    assert repr(found[2]).startswith(f"Classification(owl {score:.2f}, dog ")
    assert Classification(together[0]).top(1)[0][0] == "0"


def test_a_classifier_without_a_size_takes_pictures_of_several() -> None:
    runtime = exported("classification", InputConvention((0.0,) * 3, (1.0,) * 3))
    pictures = [np.full((size, 40, 3), 9, np.uint8) for size in (40, 30, 40)]
    assert len(runtime.predict(pictures)) == 3
