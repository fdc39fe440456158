"""torchvision's detectors in our hands: the same detections and losses, whichever year's names the file has."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection import roi_heads
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import FrozenBatchNorm2d

from backbones.batch_norm import FrozenBatchNorm2d as OurFrozenBatchNorm2d
from backbones.errors import InputError
from backbones.images import Picture, resize
from backbones.weights.file_content import content_of
from detection.agreement import agreement
from detection.building import assemble
from detection.data.digits import compose_scene
from detection.detector import Detector
from detection.masks.branch import mask_targets
from detection.masks.grids import CELLS
from detection.masks.pasting import paste, whole_pixel_boxes
from detection.targets import Targets
from detection.weights.class_names import COCO, COCO_UNUSED_IDS, numbered, unknown
from detection.weights.contract import Facts, ForeignDetector
from detection.weights.layouts import bins_first, chosen_rows, with_our_eps
from detection.weights.torchvision_layout import TORCHVISION_DETECTORS
from tests.detection.builders import random_targets
from tests.detection.torchvision_twin import KINDS, build_theirs, freeze, make_twins, their_detections

Losses = dict[str, Tensor]
SHORTER = 160


def scene(number: int, size: tuple[int, int]) -> Picture:
    return resize(compose_scene("val", number).image, size)


@pytest.fixture(scope="module", params=KINDS)
def twins(request: pytest.FixtureRequest) -> tuple[Any, Detector]:
    """Small, with COCO's 91 slots."""
    fitted_to = [torch.from_numpy(scene(number, (160, 192)).copy()).permute(2, 0, 1) / 255 for number in (5, 6)]
    return make_twins(18, 0, SHORTER, kind=request.param, pictures=fitted_to, channels=32, proposals=200)


def test_detections_are_torchvisions(twins: tuple[Any, Detector]) -> None:
    """At sizes where torchvision's coarsest anchors are not 64 pixels apart; masks pasted by each side itself."""
    theirs, ours = twins
    pictures = [scene(0, (160, 224)), scene(1, (192, 160)), scene(2, (160, 181))]
    expected = their_detections(theirs, pictures, ours.settings.category_ids)
    found = ours.eval().predict(pictures, threshold=0)
    same = agreement(expected, found)
    assert (found[0].masks is None) == (ours.settings.masks is None)
    assert same.counted > 500
    assert same.rate == 1
    assert len(set(found[0].labels.tolist())) > 20


LOSSES = {
    "rpn_objectness": "loss_objectness", "rpn_boxes": "loss_rpn_box_reg", "classes": "loss_classifier",
    "boxes": "loss_box_reg", "masks": "loss_mask",
}  # fmt: skip


@pytest.fixture
def both_losses(twins: tuple[Any, Detector], monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Losses, Losses]]:
    """Theirs and ours on two scenes with discs in them, with everything sampled.

    Normalization is in evaluation mode on both sides: in ours, regions that pad the batch pass through it too.
    """
    theirs, ours = twins
    targets = discs()
    every = 100_000
    settings = replace(ours.settings, roi_sampling=replace(ours.settings.roi_sampling, count=every))
    monkeypatch.setattr(ours, "settings", settings)
    monkeypatch.setattr(ours.rpn, "sampling", replace(ours.rpn.sampling, count=every))
    for sampler in (theirs.rpn.fg_bg_sampler, theirs.roi_heads.fg_bg_sampler):
        monkeypatch.setattr(sampler, "batch_size_per_image", every)
    pictures = np.stack([scene(3, (SHORTER, SHORTER)), scene(4, (SHORTER, SHORTER))])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    ids = torch.tensor(ours.settings.category_ids)
    listed = [
        {"boxes": boxes, "labels": ids[labels], "masks": torch.stack([disc(box) for box in boxes])}
        for boxes, labels in zip(targets.boxes, targets.labels, strict=True)
    ]

    def run() -> tuple[Losses, Losses]:
        theirs.train()
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        with torch.no_grad():
            return theirs([image.float() / 255 for image in images], listed), ours.eval().losses(images, targets)

    return run


def discs() -> Targets:
    """Objects that are ellipses filling their boxes."""
    targets = random_targets(batch=2, slots=4, seed=1, absent=0.0, classes=80)
    y, x = torch.meshgrid(*[(torch.arange(CELLS) + 0.5) / CELLS - 0.5] * 2, indexing="ij")
    grid = ((x**2 + y**2 <= 0.25) * 255).to(torch.uint8).expand(2, 4, -1, -1)
    return replace(targets, sizes=torch.full((2, 2), SHORTER), masks=grid)


def disc(box: Tensor) -> Tensor:
    """The same in the picture. [4] -> [H, W] uint8."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    y, x = torch.meshgrid(*[torch.arange(SHORTER) + 0.5] * 2, indexing="ij")
    return ((((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2) <= 1).to(torch.uint8)


def test_losses_are_torchvisions(
    both_losses: Callable[[], tuple[Losses, Losses]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the masks where both learn from the same targets."""
    targets = discs()
    assert targets.masks is not None
    images = iter(zip(targets.masks, targets.boxes, strict=True))

    def targets_as_ours(masks: Tensor, regions: Tensor, matched: Tensor, size: int) -> Tensor:
        grids, objects = next(images)
        return mask_targets(grids[matched], objects[matched], regions, size)

    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", targets_as_ours)
    expected, losses = both_losses()
    assert {LOSSES[name] for name in losses} == expected.keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[LOSSES[name]].item(), abs=1e-4), name


def test_mask_targets_of_torchvision_are_soft(
    twins: tuple[Any, Detector], both_losses: Callable[[], tuple[Losses, Losses]]
) -> None:
    """It averages the picture's mask over each cell, half a pixel aside, and ours asks for 0 or 1, as detectron2 does.

    The loss differs by less than one percent.
    """
    if twins[1].settings.masks is None:
        return
    expected, losses = both_losses()
    assert losses["masks"].item() == pytest.approx(expected["loss_mask"].item(), rel=0.01)
    assert losses["masks"].item() != pytest.approx(expected["loss_mask"].item(), abs=1e-4)


def on_no_device(kind: str, slots: int = 91, depth: int = 50) -> dict[str, Tensor]:
    """Names and shapes."""
    with torch.device("meta"):
        theirs = build_theirs(depth, slots, kind)
        if kind != "faster_v2":
            freeze(theirs)
    return theirs.state_dict()


def converted(state: dict[str, Tensor], facts: Facts = Facts()) -> ForeignDetector:  # noqa: B008 (frozen)
    return TORCHVISION_DETECTORS.convert(content_of(state), facts)


@pytest.mark.parametrize("kind", KINDS)
def test_the_builders_detectors_load(kind: str) -> None:
    with torch.device("meta"):
        theirs = get_model(KINDS[kind], weights=None, weights_backbone=None).state_dict()
    twin = on_no_device(kind)
    counters = {name for name in theirs if name.endswith("num_batches_tracked")}
    assert {name: v.shape for name, v in theirs.items() if name not in counters - twin.keys()} == {
        name: v.shape for name, v in twin.items()
    }
    foreign = converted(twin)
    with torch.device("meta"):
        ours = assemble(foreign.settings, foreign.tensors, kind)
    settings = foreign.settings
    assert settings.backbone == "resnet50_v15"
    assert settings.frozen_norm == (kind != "faster_v2")
    parts = (settings.rpn_convs, settings.box_convs, settings.box_linears, settings.neck_norm)
    assert parts == ((2, 4, 1, True) if kind == "faster_v2" else (1, 0, 2, False))
    learned = sum(value.numel() for name, value in ours.state_dict().items() if "running" not in name)
    assert learned > 41e6


def test_names_of_the_first_years_are_read() -> None:
    """Published files hold them, and torchvision renames on loading."""
    today = on_no_device("mask")
    old = {}
    for name, value in today.items():
        name = re.sub(r"^rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", name)
        name = re.sub(r"^(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1.", name)
        name = re.sub(
            r"^roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}.", name
        )
        old[name] = value
    assert len(old.keys() - today.keys()) == 2 + 16 + 8
    assert converted(old).tensors.keys() == converted(today).tensors.keys()
    with torch.device("meta"):
        build_theirs(50, 91, "mask").load_state_dict(
            {**old, **{n: torch.empty(()) for n in build_theirs(50, 91, "mask").state_dict() if "num_batches" in n}}
        )


def test_unused_slots_of_coco_are_left_out() -> None:
    names = get_model_weights("fasterrcnn_resnet50_fpn").COCO_V1.meta["categories"]
    assert tuple(number for number, name in enumerate(names) if name == "N/A") == COCO_UNUSED_IDS
    assert tuple(names[number] for number in COCO.category_ids) == COCO.names
    foreign = converted(on_no_device("mask"))
    assert (foreign.settings.classes, foreign.settings.category_ids) == (COCO.names, COCO.category_ids)
    assert foreign.tensors["predictor.classes.weight"].shape == (81, 1024)
    assert foreign.tensors["predictor.deltas.weight"].shape == (320, 1024)
    assert foreign.tensors["masks.logits.weight"].shape[0] == 80
    rows = torch.arange(91 * 4).reshape(91, 4).float()
    assert chosen_rows(rows, COCO.category_ids)[11].equal(rows[13])  # "stop sign" follows an unused id
    assert chosen_rows(rows.flatten(), [2, 1], each=4).tolist() == [8, 9, 10, 11, 4, 5, 6, 7]


def test_scores_gain_what_unused_slots_would_have_taken() -> None:
    """The one difference: with a share q for slots that no object has, ours says p / (1 - q)."""
    logits = torch.randn(5, 91, generator=torch.Generator().manual_seed(0))
    theirs = logits.softmax(1)
    q = theirs[:, list(COCO_UNUSED_IDS)].sum(1, keepdim=True)
    ours = logits[:, [0, *COCO.category_ids]].softmax(1)
    assert torch.allclose(ours[:, 1:], theirs[:, list(COCO.category_ids)] / (1 - q))


def test_other_classes_keep_all_their_rows() -> None:
    foreign = converted(on_no_device("faster", slots=4))
    assert (foreign.settings.classes, foreign.settings.category_ids) == (("class 1", "class 2", "class 3"), (1, 2, 3))
    named = converted(on_no_device("faster", slots=4), Facts(numbered(("cell", "platelet", "other"))))
    assert named.settings.classes == ("cell", "platelet", "other")
    with pytest.raises(InputError, match="tells 3 classes apart, and 2 names are given"):
        converted(on_no_device("faster", slots=4), Facts(unknown(2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roi_heads.mask_head.0.1.weight": (256,)}, "1 left over .*mask"),
        ({"roi_heads.keypoint_predictor.kps_score_lowres.weight": (512, 17, 4, 4)}, "1 left over .*keypoint"),
        ({"rpn.head.cls_logits.weight": (15, 256, 1, 1)}, "15 anchors"),
        ({"backbone.body.layer3.5.conv1.weight": None}, "1 tensors missing"),
        ({"backbone.body.layer1.0.conv1.weight": None, "backbone.body.0.0.weight": (16, 3, 3, 3)}, "missing"),
    ],
)
def test_other_designs_are_refused(changes: dict[str, tuple[int, ...] | None], message: str) -> None:
    state = on_no_device("mask")
    for name, shape in changes.items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.empty(shape, device="meta")
    with pytest.raises(InputError, match=message), torch.device("meta"):
        foreign = converted(state)
        assemble(foreign.settings, foreign.tensors, "the file")


@pytest.mark.parametrize("variance", [1.0, 1e-4, 1e-9, 1e-20])
def test_batch_normalization_without_eps_is_the_same_function(variance: float) -> None:
    """torchvision's two oldest detectors add nothing to their variances, some of which are tiny."""
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(6, generator=generator) for name in ("weight", "bias", "running_mean")}
    state["weight"] *= variance**0.5
    state["running_var"] = torch.rand(6, generator=generator) * variance
    theirs, ours = FrozenBatchNorm2d(6, eps=0.0), OurFrozenBatchNorm2d(6)
    theirs.load_state_dict(state)
    prefixed = with_our_eps({f"bn.{name}": value for name, value in state.items()}, 0.0)
    ours.load_state_dict({name.removeprefix("bn."): value for name, value in prefixed.items()})
    x = torch.randn(2, 6, 3, 3, generator=generator)
    assert torch.allclose(ours(x), theirs(x), rtol=1e-5)
    assert prefixed["bn.running_var"].equal(state["running_var"])


def test_bins_go_before_channels() -> None:
    weight = torch.randn(10, 6 * 9, generator=torch.Generator().manual_seed(0))
    pooled = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    theirs = pooled.flatten(1) @ weight.T
    assert torch.allclose(pooled.permute(0, 2, 3, 1).flatten(1) @ bins_first(weight, 6).T, theirs, atol=1e-5)


def test_whole_pixels_are_where_torchvision_pastes() -> None:
    generator = np.random.default_rng(0)
    height, width = 90, 120
    low = generator.uniform((0, 0), (width - 12, height - 12), (60, 2))
    high = np.minimum(low + generator.uniform(0.2, 100, (60, 2)), (width, height))
    low[:10], high[10:20] = 0, (width, height)
    boxes = np.concatenate((low, high), 1).astype(np.float32)
    grids = generator.random((60, 28, 28)).astype(np.float32)
    expected = paste_masks_in_image(torch.from_numpy(grids)[:, None], torch.from_numpy(boxes), (height, width))[:, 0]
    found = np.asarray(paste(grids, whole_pixel_boxes(boxes, 28), (height, width)))
    assert ((expected.numpy() >= 0.5) != found).sum() <= 2  # a value may be one half but for rounding
