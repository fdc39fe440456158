"""Appendix B's improvements against slow, obvious versions of themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, nms, roi_align

from backbones.errors import InputError
from deploy.operators import onnx_operators
from detection.boxes import ROI_WEIGHTS, clip, decode
from detection.detections import Detections
from detection.detector import Detector
from detection.improvements.context import beside_each, with_whole_image
from detection.improvements.ensemble import mean_scorer, union
from detection.improvements.framed_views import ViewSettings
from detection.improvements.improved_detector import ImprovedDetector
from detection.improvements.multi_scale import TwoScalePooler, lower_scale
from detection.improvements.soft_nms import soft_nms
from detection.improvements.views import mirrored, mirrored_back
from detection.improvements.voting import vote
from detection.operators import EAGER, Operators, portable
from detection.scoring import Pairs
from tests.detection.builders import small_detector


def random_boxes(seed: int, batch: int, count: int, extent: float = 100) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=generator) * extent * 0.6
    size = torch.rand(batch, count, 2, generator=generator) * extent * 0.35 + 4
    return torch.cat((corner, corner + size), -1)


def lively_detector(head: str = "fpn", **changes: Any) -> Detector:
    """One whose scores and boxes spread, so that every threshold cuts somewhere."""
    detector = small_detector(head, **changes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer, spread in ((detector.predictor.classes, 1.0), (detector.predictor.deltas, 1.0)):
            layer.weight.normal_(0, 1, generator=generator)
            images, sizes = torch.rand(2, 3, 128, 128) * 255, torch.full((2, 2), 128)
            assert detector.eval().propose(images, sizes)[1].valid.any()
            kept: list[Tensor] = []
            hook = layer.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
            detector.detect(images, sizes)
            hook.remove()
            layer.weight.mul_(spread / kept[0].std())
    return detector


def with_output(detector: Detector, **changes: Any) -> Detector:
    detector.settings = replace(detector.settings, output=replace(detector.settings.output, **changes))
    return detector


def pictures(count: int = 2) -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 255, (128, 128, 3), np.uint8) for n in range(count)]


def same(found: Detections, wanted: Detections) -> bool:
    return len(found) == len(wanted) and all(
        np.allclose(a, b, atol=2e-3)
        for a, b in zip((found.boxes, found.scores), (wanted.boxes, wanted.scores), strict=True)
    )


def test_voting_is_a_weighted_mean_of_overlapping_boxes_of_the_class() -> None:
    boxes, kept = random_boxes(0, 2, 40), random_boxes(1, 2, 10)
    scores = torch.rand(2, 40, generator=torch.Generator().manual_seed(2))
    scores[:, -5:] = 0
    labels, kept_labels = torch.arange(40).expand(2, -1) % 3, torch.arange(10).expand(2, -1) % 3
    voted = vote(kept, kept_labels, boxes, scores, labels, 0.3)
    moved = 0
    for image in range(2):
        for number in range(10):
            total, weight = torch.zeros(4), 0.0
            for other in range(40):
                overlap = box_iou(kept[image, number][None], boxes[image, other][None]).item()
                if overlap >= 0.3 and labels[image, other] == kept_labels[image, number]:
                    total += scores[image, other] * boxes[image, other]
                    weight += float(scores[image, other])
            wanted = total / weight if weight else kept[image, number]
            moved += weight > 0
            assert torch.allclose(voted[image, number], wanted, atol=1e-3)
    assert 3 < moved < 20


def test_soft_suppression_decays_overlapped_boxes_of_the_class() -> None:
    boxes, labels = random_boxes(3, 2, 30, extent=60), torch.arange(30).expand(2, -1) % 2
    scores = torch.rand(2, 30, generator=torch.Generator().manual_seed(4))
    found = soft_nms(boxes, scores, labels, sigma=0.5, rounds=12)
    for image in range(2):
        left, wanted = scores[image].clone(), torch.zeros(30)
        waiting = set(range(30))
        for _ in range(12):
            best = max(waiting, key=lambda n: float(left[n]))
            waiting.remove(best)
            wanted[best] = left[best]
            for other in waiting:
                if labels[image, other] == labels[image, best]:
                    overlap = box_iou(boxes[image, best][None], boxes[image, other][None]).item()
                    left[other] *= np.exp(-(overlap**2) / 0.5)
        assert torch.allclose(found[image], wanted, atol=1e-5)


def slow_detections(detector: Detector, image: Tensor, refine: bool, voting: float) -> list[tuple[int, float, Tensor]]:
    """One image, class by class, with torchvision's suppression."""
    settings, sizes = detector.settings.output, torch.tensor([list(image.shape[-2:])])
    features, proposals = detector.propose(image[None], sizes)
    boxes = proposals.boxes[0, proposals.valid[0]]

    def score(regions: Tensor) -> tuple[Tensor, Tensor]:
        level = detector.head.levels(regions[None])[0]
        strides = detector.head.pooled_strides
        pooled = [
            roi_align(features[n], [box[None]], detector.head.pool.size, 1 / strides[n], 2, aligned=True)
            for n, box in zip(level.tolist(), regions, strict=True)
        ]
        logits, deltas = detector.predictor(detector.head.vectors(detector.head.maps(torch.cat(pooled))))
        return logits.softmax(1)[:, 1:], deltas

    probabilities, deltas = score(boxes)
    if refine:
        best = [
            clip(decode(deltas[n, probabilities[n].argmax()], box, ROI_WEIGHTS)[None, None], sizes)[0, 0]
            for n, box in enumerate(boxes)
        ]
        again = score(torch.stack(best))
        boxes = torch.cat((boxes, torch.stack(best)))
        probabilities, deltas = torch.cat((probabilities, again[0])), torch.cat((deltas, again[1]))
    results = []
    for label in range(len(detector.classes)):
        scores = probabilities[:, label]
        moved = clip(decode(deltas[:, label], boxes, ROI_WEIGHTS)[None], sizes)[0]
        sure = scores > settings.score_threshold
        scores, moved = scores[sure], moved[sure]
        for kept in nms(moved, scores, settings.nms_threshold).tolist():
            box = moved[kept]
            if voting:
                near = box_iou(box[None], moved)[0] >= voting
                box = (scores[near, None] * moved[near]).sum(0) / scores[near].sum()
            results.append((label, float(scores[kept]), box))
    return sorted(results, key=lambda item: -item[1])[: settings.max_detections]


@pytest.mark.parametrize(("refine", "voting"), [(False, 0.0), (True, 0.0), (False, 0.5), (True, 0.5)])
@pytest.mark.parametrize("head", ["fpn", "c4"])
@torch.inference_mode()
def test_refinement_and_voting_are_the_slow_version(head: str, refine: bool, voting: float) -> None:
    detector = with_output(lively_detector(head), refine=refine, vote=voting, nms_threshold=0.3, score_threshold=0.2)
    image = torch.from_numpy(pictures()[0]).permute(2, 0, 1)
    wanted = slow_detections(detector, image, refine, voting)
    assert len(wanted) > 10
    for operators in (EAGER, portable()):
        detector.operators = operators
        found = detector.detect(image[None], torch.tensor([[128, 128]]))
        count = int((found.scores[0] > 0).sum())
        assert count == len(wanted)
        for number, (label, score, box) in enumerate(wanted):
            assert int(found.labels[0, number]) == label
            assert float(found.scores[0, number]) == pytest.approx(score, abs=1e-4)
            assert torch.allclose(found.boxes[0, number], box, atol=2e-2)


def test_scales_are_the_two_between_which_a_region_measures_224() -> None:
    scales = (200, 400, 600, 800, 1000)
    ratios = torch.tensor([[[s / 600, s / 600] for s in scales]])
    sides = [10, 100, 150, 168, 200, 223, 225, 300, 336, 350, 500, 900]
    boxes = torch.tensor([[[0.0, 0, side, side] for side in sides]])
    for side, lower in zip(sides, lower_scale(boxes, ratios)[0].tolist(), strict=True):
        at = [side * s / 600 for s in scales]
        between = [n for n in range(4) if at[n] <= 224 < at[n + 1]]
        assert lower == (between[0] if between else (0 if at[0] > 224 else 3))


@torch.inference_mode()
@pytest.mark.parametrize("operators", [EAGER, portable(), onnx_operators(3)], ids=["eager", "portable", "ops"])
@pytest.mark.parametrize("head", ["fpn", "c4"])
def test_maxout_pools_from_both_scales_and_takes_the_larger(head: str, operators: Operators) -> None:
    detector = lively_detector(head)
    generator = torch.Generator().manual_seed(5)
    extents = ((128, 192), (256, 384), (384, 576))
    features = [detector.head.features(torch.randn(1, 3, *extent, generator=generator)) for extent in extents]
    ratios = torch.tensor([[[h / 128, w / 192] for h, w in extents]])
    boxes = random_boxes(6, 1, 20, extent=128) * torch.tensor([1.5, 1, 1.5, 1])
    boxes[:, :5] = torch.tensor([0.0, 0, 190, 128])
    sizes_at = boxes.clone()
    pooled = TwoScalePooler(detector.head, features, ratios, operators)(boxes)
    strides = detector.head.pooled_strides
    chosen = lower_scale(boxes, ratios)[0].tolist()
    assert len(set(chosen)) == 2
    for number, lower in enumerate(chosen):
        each = []
        for scale in (lower, lower + 1):
            ratio = ratios[0, scale]
            box = sizes_at[0, number] * torch.stack((ratio[1], ratio[0], ratio[1], ratio[0]))
            level = int(detector.head.levels(box[None, None]))
            each.append(
                roi_align(features[scale][level], [box[None]], detector.head.pool.size, 1 / strides[level], 2, True)
            )
        assert torch.allclose(pooled[number], torch.maximum(*each)[0], atol=1e-4)


def test_one_scale_and_no_mirror_image_is_the_plain_detector() -> None:
    detector = lively_detector()
    wanted = detector.predict(pictures(), threshold=0)
    for views in (
        ViewSettings(),
        ViewSettings(scales=(128,)),
        ViewSettings(maxout=(128,)),
        ViewSettings(maxout=(128, 128)),
    ):
        improved = ImprovedDetector([detector], views)
        for found, plain in zip(improved.predict(pictures(), threshold=0), wanted, strict=True):
            assert len(plain) > 3
            assert same(found, plain)


def test_mirroring_stays_within_the_valid_width() -> None:
    images = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    turned = mirrored(images, torch.tensor([[4, 6], [3, 4]]))
    assert (turned[0] == images[0].flip(2)).all()
    assert (turned[1, :, :, :4] == images[1, :, :, :4].flip(2)).all()
    assert (turned[1, :, :, 4:] == images[1, :, :, 4:]).all()
    pairs = Pairs(torch.tensor([[[1.0, 2, 3, 4]]]), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long))
    assert mirrored_back(pairs, torch.tensor([[4, 6]])).boxes.tolist() == [[[3, 2, 5, 4]]]


def test_a_mirror_image_adds_the_detections_of_the_mirrored_picture() -> None:
    """Without suppression the result is exactly the union of both pictures' detections."""
    detector = with_output(lively_detector(), nms_threshold=1.0, max_detections=5000, candidates=5000)
    picture = pictures()[0]
    plain, turned = detector.predict([picture, np.ascontiguousarray(picture[:, ::-1])], threshold=0)
    back = turned.boxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1]) + torch.tensor([128.0, 0, 128, 0])
    scores, order = torch.cat((plain.scores, turned.scores)).sort(descending=True, stable=True)
    found = ImprovedDetector([detector], ViewSettings(flip=True)).predict(picture, threshold=0)
    assert len(found) == len(plain) + len(turned) > 20
    assert torch.allclose(found.scores, scores, atol=1e-5)
    assert torch.allclose(found.boxes, torch.cat((plain.boxes, back))[order], atol=1e-2)


def test_other_sizes_are_given_in_pixels_of_the_picture() -> None:
    detector = lively_detector()
    bright = np.full((96, 120, 3), 20, np.uint8)
    bright[30:60, 40:90] = 240
    found = ImprovedDetector([detector], ViewSettings(scales=(96, 160), flip=True)).predict(bright, threshold=0)
    assert len(found)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([120, 96, 120, 96])).all()


@torch.inference_mode()
def test_an_ensemble_is_the_mean_over_the_union_of_proposals() -> None:
    a, b = lively_detector(), lively_detector()
    with torch.no_grad():
        b.predictor.classes.weight.neg_()
        b.rpn.objectness.weight.neg_()
    images, sizes = torch.from_numpy(np.stack(pictures())).permute(0, 3, 1, 2), torch.full((2, 2), 128)
    (features_a, proposals_a), (features_b, proposals_b) = (d.eval().propose(images, sizes) for d in (a, b))
    every = union([proposals_a, proposals_b])
    assert (every.boxes == torch.cat((proposals_a.boxes, proposals_b.boxes), 1)).all()
    scorers = [
        d.scorer(TwoScalePooler(d.head, [f], torch.ones(2, 1, 2), EAGER), sizes)
        for d, f in ((a, features_a), (b, features_b))
    ]
    each = [score(every.boxes, every.valid) for score in scorers]
    mean = mean_scorer(scorers)(every.boxes, every.valid)
    assert torch.allclose(mean.probabilities, (each[0].probabilities + each[1].probabilities) / 2)
    assert torch.allclose(mean.deltas, (each[0].deltas + each[1].deltas) / 2)
    assert not torch.allclose(each[0].probabilities, each[1].probabilities)
    found = ImprovedDetector([a, b], ViewSettings()).predict(pictures(), threshold=0)
    assert all(len(detections) for detections in found)
    twice = ImprovedDetector([a, a], ViewSettings()).predict(pictures(), threshold=0)
    for detections, plain in zip(twice, a.predict(pictures(), threshold=0), strict=True):
        assert same(detections, plain)


def test_views_and_detectors_that_do_not_go_together_are_refused() -> None:
    detector = small_detector()
    with pytest.raises(InputError, match="--maxout and --scales"):
        ImprovedDetector([detector], ViewSettings(maxout=(100, 200), scales=(128,)))
    with pytest.raises(InputError, match="same classes"):
        ImprovedDetector([detector, small_detector(classes=("x", "y"))], ViewSettings())


def test_context_is_the_whole_images_vector_beside_each() -> None:
    boxes = random_boxes(0, 2, 3)
    extended = with_whole_image(boxes, torch.tensor([[90, 110], [50, 60]]))
    assert extended[:, -1].tolist() == [[0, 0, 110, 90], [0, 0, 60, 50]]
    assert (extended[:, :-1] == boxes).all()
    vectors = torch.arange(2 * 4 * 5).float().reshape(2, 4, 5)
    joined = beside_each(vectors)
    assert joined.shape == (2, 3, 10)
    assert (joined[1, 2] == torch.cat((vectors[1, 2], vectors[1, 3]))).all()


@pytest.mark.parametrize("head", ["fpn", "c4"])
def test_a_detector_with_context_looks_at_the_whole_image(head: str) -> None:
    detector = small_detector(head, context=True)
    assert detector.predictor.classes.in_features == 2 * detector.head.vector
    images = torch.from_numpy(np.stack(pictures())).permute(0, 3, 1, 2)
    features, proposals = detector.eval().propose(images, torch.full((2, 2), 128))
    seen: list[Tensor] = []
    detector.predictor.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    found = detector.detect(images, torch.full((2, 2), 128))
    whole = torch.tensor([[[0.0, 0, 128, 128]]]).expand(2, -1, -1)
    pool = TwoScalePooler(detector.head, [features], torch.ones(2, 1, 2), EAGER)
    wanted = detector.head.vectors(detector.head.maps(pool(whole)))
    assert found.boxes.shape[0] == 2
    half = detector.head.vector
    assert torch.allclose(seen[0][:, :, half:], wanted[:, None].expand(-1, proposals.boxes.shape[1], -1), atol=1e-5)
