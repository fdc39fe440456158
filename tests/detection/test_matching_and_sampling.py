"""Target assignment and sampling against torchvision and against the obvious way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from backbones.running.keyed_random import uniform
from detection import matching
from detection.anchors import AnchorGrid
from detection.losses import smooth_l1
from detection.matching import match
from detection.sampling import draw
from detection.settings import AnchorSettings, SamplingSettings, default_settings
from tests.detection.builders import random_targets

RPN = default_settings("resnet18", ("a",)).rpn_sampling
ROI = default_settings("resnet18", ("a",)).roi_sampling


def test_anchors_are_torchvisions() -> None:
    sizes, ratios = ((32,), (64,), (128,)), (0.5, 1.0, 2.0)
    grid = AnchorGrid(AnchorSettings(sizes, ratios), (4, 8, 16))
    features = [torch.zeros(1, 1, 24 // s * 2, 40 // s * 2) for s in (4, 8, 16)]
    # torchvision divides the picture by the map, so a picture is chosen that divides evenly
    features = [torch.zeros(1, 1, 64 // s, 96 // s) for s in (4, 8, 16)]
    theirs = AnchorGenerator(sizes, (ratios,) * 3)(ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)]), features)[0]
    assert torch.equal(torch.cat(grid(features)), theirs)
    assert grid.per_position == 3


class _Anchors(torch.nn.Module):
    """Of maps of a picture, as exported graphs make them."""

    strides = (4, 8, 16, 32, 64)

    def __init__(self) -> None:
        super().__init__()
        sizes = ((32,), (64,), (128,), (256,), (512,))
        self.grid = AnchorGrid(AnchorSettings(sizes, whole_strides=True), self.strides)

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        maps = [picture[:, :, ::stride, ::stride] for stride in self.strides]
        return self.grid(maps)


@pytest.mark.parametrize("size", [(800, 1344), (160, 224), (608, 96), (128, 256)])
def test_whole_strides_are_torchvisions(size: tuple[int, int]) -> None:
    """Where the coarsest map's sides do not divide the picture's, torchvision moves its anchors together."""
    ours = _Anchors()
    picture = torch.zeros(1, 3, *size)
    maps = [picture[:, :, ::stride, ::stride] for stride in ours.strides]
    generator = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    assert torch.equal(torch.cat(ours(picture)), generator(ImageList(picture, [size]), maps)[0])


def test_whole_strides_follow_the_size_in_an_exported_graph() -> None:
    height, width = torch.export.Dim("height", min=1, max=50), torch.export.Dim("width", min=1, max=50)
    shapes = {"picture": {2: 32 * height, 3: 32 * width}}
    graph = torch.export.export(_Anchors(), (torch.zeros(1, 3, 160, 192),), dynamic_shapes=shapes).module()
    other = torch.zeros(1, 3, 224, 96)
    assert torch.equal(torch.cat(graph(other)), torch.cat(_Anchors()(other)))


def test_an_anchors_number_does_not_depend_on_padding() -> None:
    grid = AnchorGrid(AnchorSettings(((32, 64),), (1.0,)), (8,))
    small, large = (grid.identities([torch.zeros(1, 1, *shape)]) for shape in ((3, 4), (5, 9)))
    anchors_small, anchors_large = (grid([torch.zeros(1, 1, *shape)])[0] for shape in ((3, 4), (5, 9)))
    places = {tuple(box.tolist()): int(n) for box, n in zip(anchors_large, large, strict=True)}
    assert [places[tuple(box.tolist())] for box in anchors_small] == small.tolist()
    assert len(set(large.tolist())) == len(large)


@pytest.mark.parametrize("settings", [RPN, ROI])
def test_matching_equals_torchvision(settings: SamplingSettings) -> None:
    targets = random_targets(batch=4, slots=6, seed=3)
    grid = AnchorGrid(AnchorSettings(((16,), (32,)), (0.5, 1.0, 2.0)), (8, 16))
    candidates = torch.cat(grid([torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 8, 8)]))
    matches = match(candidates, targets, settings)
    matcher = Matcher(settings.positive_iou, settings.negative_iou, allow_low_quality_matches=settings.keep_best)
    for image in range(4):
        present = targets.present[image]
        objects = targets.boxes[image][present]
        if not len(objects):
            assert not matches.positive[image].any()
            assert matches.negative[image].all()
            continue
        theirs = matcher(box_iou(objects, candidates))
        assert torch.equal(matches.positive[image], theirs >= 0)
        assert torch.equal(matches.negative[image], theirs == Matcher.BELOW_LOW_THRESHOLD)
        slots = present.nonzero()[:, 0]
        assert torch.equal(matches.matched[image][theirs >= 0], slots[theirs[theirs >= 0]])


@pytest.mark.parametrize("keep_best", [True, False])
@pytest.mark.parametrize("shared", [True, False], ids=["shared candidates", "own candidates"])
def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch, keep_best: bool, shared: bool) -> None:
    """Picture by picture in small pieces, all at once in small pieces, and all at once."""
    generator = torch.Generator().manual_seed(5)
    targets = random_targets(batch=3, slots=12, seed=5)
    ignored = ~targets.present & (torch.rand(3, 12, generator=generator) < 0.5)
    targets = replace(targets, ignored=ignored, boxes=targets.boxes.round())  # whole pixels, so that overlaps tie
    corner = (torch.rand(3, 500, 2, generator=generator) * 90).round()
    candidates = torch.cat((corner, corner + 24), -1)
    candidates = candidates[0] if shared else candidates
    settings = replace(RPN, keep_best=keep_best)
    whole = matching._compare(
        candidates[None] if shared else candidates, targets.boxes, targets.present, ignored, settings
    )
    assert whole.positive.any()
    assert (whole.negative & ~whole.positive).any()
    for name in ("PROCESSOR_PAIRS", "KEPT_PAIRS"):
        monkeypatch.setattr(matching, name, 700)
    pieced = matching._compare(
        candidates[None] if shared else candidates, targets.boxes, targets.present, ignored, settings
    )
    for found in (pieced, match(candidates, targets, settings)):
        assert torch.equal(found.positive, whole.positive)
        assert torch.equal(found.negative, whole.negative)
        assert torch.equal(found.matched[whole.positive], whole.matched[whole.positive])


def test_a_floor_leaves_easy_background_out() -> None:
    targets = random_targets(batch=1, slots=1, seed=0, absent=0.0)
    box = targets.boxes[0, 0]
    width = box[2] - box[0]
    shifted = [box + torch.tensor([shift, 0, shift, 0]) * width for shift in (0.0, 0.7, 5.0)]
    matches = match(torch.stack(shifted), targets, replace(ROI, negative_floor=0.1))
    assert matches.positive[0].tolist() == [True, False, False]
    assert matches.negative[0].tolist() == [False, True, False]


def test_crowds_are_no_background() -> None:
    targets = random_targets(batch=1, slots=2, seed=0, absent=0.0)
    crowd = torch.tensor([[True, False]])
    targets = replace(targets, present=~crowd, ignored=crowd)
    inside = targets.boxes[:, :1].clone()
    matches = match(inside, targets, ROI)
    assert not matches.negative.any()
    assert not matches.positive.any() or (matches.matched == 1).all()


def obvious_draw(
    positive: list[bool], negative: list[bool], random: list[float], count: int, fraction: float
) -> set[int]:
    def best(flags: list[bool], most: int) -> list[int]:
        return sorted((i for i, flag in enumerate(flags) if flag), key=lambda i: -random[i])[:most]

    chosen = best(positive, int(count * fraction))
    return set(chosen) | set(best(negative, count - len(chosen)))


@pytest.mark.parametrize("count", [8, 30, 200])
def test_sampling_equals_the_obvious_way(count: int) -> None:
    targets = random_targets(batch=5, slots=4, seed=9)
    grid = AnchorGrid(AnchorSettings(((32,),), (1.0,)), (16,))
    features = [torch.zeros(1, 1, 8, 8)]
    settings = replace(RPN, count=count, positive_iou=0.3, negative_iou=0.2)
    matches = match(grid(features)[0], targets, settings)
    random = uniform(targets.keys, grid.identities(features))
    samples = draw(matches, settings, random)
    for image in range(5):
        expected = obvious_draw(
            matches.positive[image].tolist(), matches.negative[image].tolist(), random[image].tolist(), count, 0.5
        )
        valid = samples.valid[image]
        assert set(samples.index[image][valid].tolist()) == expected
        drawn_positive = samples.index[image][samples.positive[image]]
        assert matches.positive[image][drawn_positive].all()
        assert valid.sum() == len(expected)


def test_an_images_draw_does_not_depend_on_its_batch() -> None:
    targets = random_targets(batch=3, slots=4, seed=9)
    grid = AnchorGrid(AnchorSettings(((32,),), (1.0,)), (8,))
    candidates, numbers = grid([torch.zeros(1, 1, 16, 16)])[0], grid.identities([torch.zeros(1, 1, 16, 16)])
    together = draw(match(candidates, targets, RPN), RPN, uniform(targets.keys, numbers))
    alone_targets = targets.each(lambda part: part[2:])
    alone = draw(match(candidates, alone_targets, RPN), RPN, uniform(alone_targets.keys, numbers))
    assert torch.equal(together.index[2:], alone.index)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1(beta: float) -> None:
    x = torch.linspace(-3, 3, 101)
    expected = torch.nn.functional.smooth_l1_loss(x, torch.zeros_like(x), beta=beta, reduction="none")
    assert torch.allclose(smooth_l1(x, beta), expected)
