"""The detector as a whole: parity with torchvision, empty batches, one graph, both heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from backbones.freezing import freeze_stages
from detection.agreement import agreement
from detection.detections import Detections
from detection.evaluation import score
from detection.operators import COMPILED, EAGER, portable
from detection.proposals import Proposals
from detection.regions import RegionTargets, region_losses, sample_regions
from detection.settings import InputSettings, MaskSettings, PoolSettings, ProposalSettings, SamplingSettings
from detection.targets import Targets
from detection.training.tasks import compile_losses
from tests.detection.builders import SIZE, data_of, random_targets, small_detector
from tests.detection.torchvision_twin import make_twins


def pixels(batch: int, height: int = SIZE, width: int = SIZE, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def twins() -> tuple[nn.Module, nn.Module]:
    return make_twins(depth=18, classes=5, size=SIZE)


@pytest.mark.parametrize("operators", [EAGER, COMPILED, portable(40)], ids=["eager", "compiled", "portable"])
@pytest.mark.parametrize("size", [(SIZE, SIZE), (SIZE, 224)])
def test_detections_are_torchvisions(twins: tuple, operators: object, size: tuple[int, int]) -> None:
    theirs, ours = twins
    ours.operators = operators
    images = pixels(2, *size)
    with torch.no_grad():
        found = ours.eval().detect(images, torch.tensor([size] * 2))
        expected = theirs.eval()([image.float() / 255 for image in images])
    assert found.exact.all()
    ours_list = [
        Detections(boxes[s > 0], s[s > 0], labels[s > 0])
        for boxes, s, labels in zip(found.boxes, found.scores, found.labels, strict=True)
    ]
    theirs_list = [Detections(e["boxes"], e["scores"], e["labels"] - 1) for e in expected]
    same = agreement(theirs_list, ours_list)
    assert same.counted > 100
    assert same.rate == 1


def test_losses_are_torchvisions(twins: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything sampled, both definitions must give the same four numbers."""
    theirs, ours = twins
    targets = random_targets(batch=2, slots=4, seed=1, absent=0.0, classes=5)
    every = 100_000
    ours.settings = replace(ours.settings, roi_sampling=replace(ours.settings.roi_sampling, count=every))
    monkeypatch.setattr(ours.rpn, "sampling", replace(ours.rpn.sampling, count=every))
    for sampler in (theirs.rpn.fg_bg_sampler, theirs.roi_heads.fg_bg_sampler):
        monkeypatch.setattr(sampler, "batch_size_per_image", every)
    ours.operators = EAGER
    images = pixels(2, seed=4)
    listed = [
        {"boxes": targets.boxes[i][targets.present[i]], "labels": targets.labels[i][targets.present[i]] + 1}
        for i in range(2)
    ]
    expected = theirs.train()([image.float() / 255 for image in images], listed)
    losses = ours.train().losses(images, targets)
    for name, other in (
        ("rpn_objectness", "loss_objectness"), ("rpn_boxes", "loss_rpn_box_reg"),
        ("classes", "loss_classifier"), ("boxes", "loss_box_reg"),
    ):  # fmt: skip
        assert losses[name].item() == pytest.approx(expected[other].item(), abs=1e-4), name


@pytest.mark.parametrize("head", ["fpn", "c4"])
@pytest.mark.parametrize("absent", [1.0, 0.5, 0.0], ids=["all empty", "half empty", "full"])
def test_batches_without_objects_train(head: str, absent: float) -> None:
    detector = small_detector(head).train()
    targets = random_targets(batch=2, slots=4, seed=0, absent=absent)
    if absent == 1.0:
        targets = replace(targets, present=torch.zeros_like(targets.present))
    losses = detector.losses(pixels(2), targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    if absent == 1.0:
        assert losses["boxes"] == losses["rpn_boxes"] == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters() if p.requires_grad)


def losses_and_gradients(
    losses_of: Callable[..., dict[str, torch.Tensor]], detector: nn.Module, images: torch.Tensor, targets: Targets
) -> tuple[dict[str, float], list[torch.Tensor]]:
    detector.zero_grad()
    losses = losses_of(images, targets)
    sum(losses.values()).backward()
    gradients = [p.grad.clone() for p in detector.parameters() if p.grad is not None]
    return {name: loss.item() for name, loss in losses.items()}, gradients


@pytest.mark.parametrize("head", ["fpn", "c4"])
def test_the_compiled_step_is_the_eager_one_in_a_graph_for_each_size(head: str) -> None:
    """Forward and backward, masks on the pyramid; any number of objects goes through the same graph."""
    masks = MaskSettings(PoolSettings(size=4), 1, 8) if head == "fpn" else None
    detector = small_detector(head, masks=masks).train()
    detector.operators = COMPILED
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = compile_losses(detector, backend=counter)
    kinds = [(SIZE, 8, 1), (SIZE, 24, 1), (160, 16, 2), (SIZE, 16, 2), (160, 40, 2)]
    for width, slots, graphs in kinds if masks else kinds[:2]:
        targets = random_targets(batch=2, slots=slots, seed=slots)
        grids = torch.randint(0, 256, (2, slots, 28, 28), dtype=torch.uint8)
        targets = replace(targets, masks=grids if masks else None).with_free_slots()
        images = pixels(2, SIZE, width)
        found, ours = losses_and_gradients(compiled, detector, images, targets)
        expected, theirs = losses_and_gradients(detector.losses, detector, images, targets)
        assert found == pytest.approx(expected, abs=1e-6)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
        assert counter.frame_count == graphs


def test_compiled_detection_is_eager_detection() -> None:
    detector = small_detector().eval()
    torch._dynamo.reset()
    compiled = torch.compile(detector.detect, fullgraph=True, dynamic=False, backend="aot_eager")
    for width in (SIZE, 160):
        images, sizes = pixels(2, SIZE, width), torch.tensor([[SIZE, width], [100, 90]])
        with torch.inference_mode():
            detector.operators = COMPILED
            found = compiled(images, sizes)
            detector.operators = EAGER
            expected = detector.detect(images, sizes)
        used = expected.scores.shape[1]
        assert found.exact.all()
        assert not found.scores[:, used:].any()
        assert torch.allclose(found.scores[:, :used], expected.scores, atol=1e-6)
        assert torch.allclose(found.boxes[:, :used], expected.boxes, atol=1e-4)


def test_no_work_is_done_on_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager regions and detections are as many as the image that has most; what is found stays the same."""
    detector = small_detector(masks=MaskSettings(PoolSettings(size=4), 1, 8)).eval()
    detector.settings = replace(detector.settings, test_proposals=ProposalSettings(100, 1000))
    images, sizes = pixels(2), torch.tensor([[SIZE, SIZE], [40, 50]])
    described: list[int] = []
    plain = detector._describe
    monkeypatch.setattr(
        detector, "_describe", lambda pool, boxes, *rest: described.append(boxes.shape[1]) or plain(pool, boxes, *rest)
    )
    with torch.inference_mode():
        trimmed = detector.detect(images, sizes)
        detector.operators = replace(EAGER, trims=False)
        whole = detector.detect(images, sizes)
    used = trimmed.scores.shape[1]
    assert described[0] < described[1]
    assert (trimmed.scores > 0).any(0).all()
    assert used < whole.scores.shape[1] or (whole.scores > 0).any(0).all()
    assert not whole.scores[:, used:].any()
    assert torch.allclose(trimmed.scores, whole.scores[:, :used], atol=1e-6)
    assert torch.allclose(trimmed.boxes, whole.boxes[:, :used], atol=1e-4)
    assert trimmed.masks is not None and whole.masks is not None
    assert torch.allclose(trimmed.masks, whole.masks[:, :used], atol=1e-5)


def test_nothing_found_leaves_one_empty_column() -> None:
    detector = small_detector().eval()
    detector.settings = replace(detector.settings, output=replace(detector.settings.output, score_threshold=1.0))
    with torch.inference_mode():
        found = detector.detect(pixels(2), torch.tensor([[SIZE, SIZE]] * 2))
    assert found.scores.shape == (2, 1)
    assert not found.scores.any()


def test_the_seed_decides_the_samples() -> None:
    detector = small_detector().train()
    targets, images = random_targets(batch=2, slots=4, seed=0), pixels(2)
    first, again = (detector.losses(images, targets)["rpn_objectness"].item() for _ in range(2))
    other = detector.losses(images, replace(targets, keys=targets.keys + 1))["rpn_objectness"].item()
    assert first == again != other


def test_unlearned_stages_get_no_gradient() -> None:
    detector = small_detector().train()
    freeze_stages(detector.backbone, 2)
    sum(detector.losses(pixels(2), random_targets(batch=2, slots=4, seed=0)).values()).backward()
    backbone = detector.head.backbone
    assert backbone.stem.conv.weight.grad is None
    assert backbone.conv2_x[0].conv1.weight.grad is None
    assert backbone.conv3_x[0].conv1.weight.grad is not None


def test_objects_join_the_proposals_and_padding_stays_out() -> None:
    targets = random_targets(batch=2, slots=4, seed=0)
    nothing = Proposals(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
    regions = sample_regions(nothing, targets, small_detector().settings.roi_sampling)
    assert regions.valid.sum(1).tolist() == targets.present.sum(1).tolist()
    wanted = {tuple(box.tolist()) for box in targets.boxes[targets.present]}
    assert {tuple(box.tolist()) for box in regions.boxes[regions.valid]} <= wanted
    assert (regions.labels[regions.valid] > 0).all()


def test_region_losses_by_hand() -> None:
    box = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 9, 9]]])
    slots, valid = torch.zeros(1, 3, dtype=torch.long), torch.tensor([[True, True, False]])
    regions = RegionTargets(box, torch.tensor([[2, 0, 1]]), box, slots, valid)
    logits, deltas = torch.zeros(1, 3, 3), torch.zeros(1, 3, 2, 4)
    deltas[0, 0, 1] = torch.tensor([1.0, -1.0, 0.0, 2.0])
    losses = region_losses(logits, deltas, regions, beta=0.0)
    assert losses["classes"].item() == pytest.approx(np.log(3))
    assert losses["boxes"].item() == pytest.approx(4 / 2)


def test_predictions_are_in_the_pictures_own_pixels() -> None:
    detector = small_detector()
    pictures = [np.random.default_rng(n).integers(0, 255, (h, w, 3), np.uint8) for n, (h, w) in
                enumerate([(50, 80), (300, 200), (128, 128), (128, 128)])]  # fmt: skip
    detector.settings = replace(detector.settings, output=replace(detector.settings.output, score_threshold=0.0))
    found = detector.predict(pictures, batch_size=2, threshold=0)
    for picture, detections in zip(pictures, found, strict=True):
        assert isinstance(detections.boxes, torch.Tensor)
        assert len(detections)
        assert (detections.boxes >= 0).all()
        assert (detections.boxes <= torch.tensor([*picture.shape[1::-1]] * 2)).all()
        assert (detections.scores.diff() <= 0).all()


def test_a_pictures_detections_do_not_depend_on_its_neighbours() -> None:
    detector = small_detector()
    detector.settings = replace(detector.settings, output=replace(detector.settings.output, score_threshold=0.0))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (h, w, 3), np.uint8) for h, w in [(64, 128), (128, 64), (100, 120), (64, 128)]]
    together = detector.predict(pictures, batch_size=4, threshold=0)
    for picture, detections in zip(pictures, together, strict=True):
        alone = detector.predict(picture, threshold=0)
        assert torch.allclose(alone.boxes, detections.boxes, atol=1e-3)
        assert torch.allclose(alone.scores, detections.scores, atol=1e-5)


def test_nothing_found_gives_empty_arrays() -> None:
    detector = small_detector()
    detector.settings = replace(detector.settings, output=replace(detector.settings.output, score_threshold=0.99))
    found = detector.predict(np.zeros((64, 64, 3), np.uint8), threshold=0)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.to_json(detector.classes) == []


def test_one_image_can_be_learned_by_heart() -> None:
    """AP 1.0 on a single picture: every part of the detector must do its work."""
    picture = np.random.default_rng(0).integers(0, 60, (64, 64, 3), np.uint8)
    boxes = [(4, 6, 30, 28), (34, 10, 60, 50), (8, 36, 28, 58)]
    for (x1, y1, x2, y2), color in zip(boxes, [(250, 60, 40), (60, 240, 70), (70, 80, 250)], strict=True):
        picture[y1:y2, x1:x2] = color
    detector = small_detector(
        input=InputSettings(64, 64), channels=32, vector=128, roi_sampling=SamplingSettings(32, 0.5, 0.5, 0.5),
        rpn_beta=0.0, roi_beta=0.0,
    ).train()  # fmt: skip
    images = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02, momentum=0.9)
    for step in range(260):
        optimizer.param_groups[0]["lr"] = 0.02 * min(1.0, (step + 1) / 20) * (1 if step < 200 else 0.1)
        targets = Targets(
            torch.tensor(boxes, dtype=torch.float32)[None], torch.tensor([[0, 1, 2]]),
            torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool),
            torch.tensor([[64, 64]]), torch.tensor([step]),
        )  # fmt: skip
        optimizer.zero_grad()
        sum(detector.losses(images, targets).values()).backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
    data = data_of([picture], [[(tuple(map(float, box)), label) for label, box in enumerate(boxes)]])
    assert score(detector.eval().predict([picture], threshold=0), data.annotations).metrics["AP"] == pytest.approx(1)
