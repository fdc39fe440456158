"""detectron2's detectors in our hands: what it answered once, and the layouts that differ from ours."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.errors import InputError
from backbones.weights.file_content import content_of
from detection.agreement import agreement
from detection.anchors import cell_anchors
from detection.building import assemble
from detection.detections import Detections
from detection.masks.encoded import EncodedMasks
from detection.masks.run_length import RunLengthMasks
from detection.settings import InputSettings
from detection.weights import convert_detector, is_detector, read_source
from detection.weights.class_names import COCO
from detection.weights.contract import Facts
from detection.weights.detectron2_layout import DETECTRON2_DETECTORS
from detection.weights.layouts import ratios_outermost
from tests.detection.detectron2_weights import (
    CLASSES,
    DETECTIONS,
    LONGER,
    PROPOSALS,
    SHORTER,
    SMALL_CASES,
    small_picture,
    with_outputs,
    zoo_content,
    zoo_shapes,
)

ANSWERS = json.loads((Path(__file__).parent / "detectron2_answers.json").read_text())
BACKBONE = ("backbone.stem", "backbone.res", "backbone.bottom_up", "roi_heads.res5")


@pytest.mark.parametrize("case", SMALL_CASES)
def test_detections_are_detectron2s(case: str) -> None:
    """Resizing, normalization, C4 and FPN, anchors, adaptive RoIAlign, classes, boxes, masks: all of it at once."""
    _, design, depth, masks = SMALL_CASES[case]
    content = zoo_content(design, depth, masks, CLASSES)
    content["model"] = with_outputs(content["model"], ANSWERS[case]["outputs"])
    foreign = DETECTRON2_DETECTORS.convert(content_of(content), Facts())
    settings = replace(
        foreign.settings,
        input=InputSettings(SHORTER, LONGER, foreign.settings.input.multiple),
        test_proposals=replace(foreign.settings.test_proposals, after_nms=PROPOSALS),
        output=replace(foreign.settings.output, max_detections=DETECTIONS),
    )
    ours = assemble(settings, foreign.tensors, case).eval()
    same = agreement([stored_detections(ANSWERS[case])], ours.predict([small_picture()], threshold=0))
    assert (same.counted, same.rate) == (2 * DETECTIONS, 1)


def stored_detections(answer: dict[str, Any]) -> Detections:
    size = small_picture().shape[:2]
    encoded = EncodedMasks.join([counts.encode() for counts in answer["masks"]])
    masks = np.stack([encoded.dense(number, size) for number in range(len(encoded))])
    boxes, scores, labels = (np.array(answer[name]) for name in ("boxes", "scores", "labels"))
    return Detections(boxes, scores, labels, RunLengthMasks.from_dense(masks))


@pytest.mark.parametrize(("design", "depth"), [("C4", 50), ("C4", 101), ("FPN", 50), ("FPN", 101)])
@pytest.mark.parametrize("masks", [False, True], ids=["faster", "mask"])
def test_every_tensor_finds_its_place(design: str, depth: int, masks: bool) -> None:
    """Shapes only: of COCO's detectors in the model zoo, with the constants that its older files hold."""
    foreign = DETECTRON2_DETECTORS.convert(zoo_on_no_device(design, depth, masks), Facts())
    with torch.device("meta"):
        assemble(foreign.settings, foreign.tensors, "the file")
    settings = foreign.settings
    assert (settings.backbone, settings.head) == (f"resnet{depth}", design.lower())
    assert (settings.classes, settings.category_ids) == (COCO.names, COCO.category_ids)
    assert (settings.masks is not None, settings.rpn_beta, settings.roi_beta) == (masks, 0, 0)
    assert settings.convention.channels == "BGR"
    assert set(foreign.dropped) == {"pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.0"}


def zoo_on_no_device(design: str, depth: int, masks: bool, classes: int = 80) -> Any:
    shapes = zoo_shapes(design, depth, masks, classes)
    constants = {
        "pixel_mean": torch.tensor([103.53, 116.28, 123.675]).reshape(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    }
    return content_of({name: torch.empty(shape, device="meta") for name, shape in shapes.items()} | constants)


def test_anchors_are_reordered_from_sizes_to_ratios() -> None:
    """detectron2 writes all ratios of one size, then those of the next."""
    sizes, ratios = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
    theirs = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for size in sizes for h, w in
                           ((size * ratio**0.5, size / ratio**0.5) for ratio in ratios)])  # fmt: skip
    assert torch.allclose(ratios_outermost(theirs, 5, 3), cell_anchors(sizes, ratios, rounded=False))
    deltas = torch.arange(60)
    kept = ratios_outermost(deltas, 5, 3).reshape(15, 4)
    assert torch.equal(kept % 4, torch.arange(4).expand(15, 4))
    assert torch.equal(kept[:, 0] // 4, ratios_outermost(torch.arange(15), 5, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roi_heads.mask_head.mask_fcn1.norm.weight": (256,)}, "1 left over.*mask_fcn1|masks.convs.0.norm.weight"),
        ({"roi_heads.box_predictor.bbox_pred.weight": (4, 1024)}, "predictor.deltas.weight has another shape"),
        ({"proposal_generator.rpn_head.objectness_logits.weight": (9, 256, 1, 1)}, "9 anchors at each position"),
        ({"backbone.fpn_lateral3.weight": None}, "1 tensors missing"),
        ({"backbone.bottom_up.res4.5.conv1.weight": None}, "1 tensors missing"),
        ({"backbone.bottom_up.res3.4.conv1.weight": (128, 512, 1, 1)}, "not one of the ResNets"),
    ],
)
def test_other_designs_are_refused(changes: dict[str, tuple[int, ...] | None], message: str) -> None:
    content = zoo_on_no_device("FPN", 50, masks=True)
    for name, shape in changes.items():
        content.tensors.pop(name, None)
        if shape is not None:
            content.tensors[name] = torch.empty(shape, device="meta")
    with pytest.raises(InputError, match=message), torch.device("meta"):
        foreign = DETECTRON2_DETECTORS.convert(content, Facts())
        assemble(foreign.settings, foreign.tensors, "the file")


def test_the_pickle_is_read_without_running_it(tmp_path: Path) -> None:
    names = [name for name in zoo_shapes("FPN", 50, False, 80) if not name.startswith(BACKBONE)]
    arrays = {name: np.zeros((2, 2), np.float32) for name in names}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}, protocol=2))
    assert is_detector(read_source(path))
    with pytest.raises(InputError, match=r"model_final.pkl: detectron2's detector: its backbone"):
        convert_detector(read_source(path))
    path.write_bytes(pickle.dumps({"model": {"evil": Path("x")}}))
    with pytest.raises(InputError, match="asks for pathlib"):
        convert_detector(read_source(path))
