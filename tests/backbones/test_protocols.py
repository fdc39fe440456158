"""Every protocol gives what a slow, obvious version of it gives (section 3.4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from backbones.classifier import Classifier
from backbones.contract import Backbone
from backbones.convention import IMAGENET, InputConvention
from backbones.data.arrays import LabelledImages
from backbones.errors import InputError
from backbones.framing import at_scales, frame_for_classifier, ten_crops
from backbones.images import Picture
from backbones.normalization import Normalize
from backbones.protocols.class_names import columns_for, labels_for
from backbones.protocols.dense import DenseClassifier, dense_logits, vgg_score_map
from backbones.protocols.ensemble import Member, ensemble_scores
from backbones.protocols.reading import map_ahead
from backbones.protocols.scoring import mean_scores, softmax
from backbones.protocols.views import SIDES, check_protocol, views_of
from backbones.resnet import ResNet
from backbones.running import progress
from backbones.variants import ResNetVariant, VGGVariant
from backbones.vgg import VGG

SMALL_RESNET = ResNetVariant("basic", (1, 1, 1, 1), widths=(4, 8, 8, 16))
SMALL_VGG = VGGVariant((1, 1, 1, 1, 1), (2, 2, 4, 4, 4))
CROP_48 = InputConvention((100.0, 110.0, 120.0), (50.0, 60.0, 70.0), "BGR", size=(48, 48), resize=56)


def random_picture(height: int, width: int, seed: int = 0) -> Picture:
    coarse = np.random.default_rng((seed, height, width)).integers(0, 255, (5, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


class Pictures:
    """Pictures of different sizes as a data set."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.pictures = [random_picture(*size, seed) for seed, size in enumerate(sizes)]
        self.labels = np.arange(len(sizes), dtype=np.int64) % 3
        self.classes = ("a", "b", "c")

    def picture(self, number: int) -> Picture:
        return self.pictures[number]


@pytest.fixture(scope="module")
def data() -> Pictures:
    return Pictures((60, 80), (90, 70), (60, 80), (56, 56), (50, 140), (80, 60), (60, 80))


def small_classifier(seed: int = 0, classes: tuple[str, ...] = ("a", "b", "c")) -> Classifier:
    torch.manual_seed(seed)
    network = ResNet(SMALL_RESNET, len(classes))
    network.fc.weight.data *= 3  # far from uniform scores
    return Classifier("resnet18", network, Normalize(CROP_48), classes).eval()


def member(classifier: Classifier, name: str = "m") -> Member:
    return Member(name, classifier.logits, classifier.convention, classifier.classes)


@torch.no_grad()
def softmax_of(classifier: Classifier, view: Image.Image | Picture) -> np.ndarray:
    pixels = torch.from_numpy(np.array(view)).permute(2, 0, 1)[None]
    return classifier(pixels)[0].softmax(0).numpy()


def crops_by_pillow(picture: Picture, crop: int, shorter: int) -> list[Image.Image]:
    """Ten crops of one picture, written out."""
    image = Image.fromarray(picture)
    scale = shorter / min(image.size)
    width, height = (int(side * scale + 0.5) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    places = [
        (0, 0),
        (width - crop, 0),
        (0, height - crop),
        (width - crop, height - crop),
        (round((width - crop) / 2), round((height - crop) / 2)),
    ]
    five = [image.crop((left, top, left + crop, top + crop)) for left, top in places]
    return five + [ImageOps.mirror(view) for view in five]


@pytest.mark.parametrize("size", [(60, 80), (90, 70), (300, 500), (224, 224), (33, 20)])
def test_ten_crops_are_corners_and_centre_and_their_mirror_images(size: tuple[int, int]) -> None:
    picture = random_picture(*size)
    found, expected = ten_crops(picture, 224, 256), crops_by_pillow(picture, 224, 256)
    assert len(found) == 10
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, np.asarray(theirs))
    assert np.array_equal(found[4], frame_for_classifier(picture, IMAGENET))


def test_scales_keep_the_aspect_ratio() -> None:
    assert SIDES == (224, 256, 384, 480, 640)
    views = at_scales(random_picture(30, 40), SIDES)
    assert [view.shape[:2] for view in views] == [(224, 299), (256, 341), (384, 512), (480, 640), (640, 853)]


def test_ten_crop_scores_are_the_mean_of_ten_softmax_outputs(data: Pictures) -> None:
    classifier = small_classifier()
    expected = [
        np.mean([softmax_of(classifier, view) for view in crops_by_pillow(picture, 48, 56)], 0)
        for picture in data.pictures
    ]
    scores = ensemble_scores([member(classifier)], data, "10-crop", batch_size=4)
    assert np.allclose(scores, expected, atol=1e-5)
    logits = [classifier.logits(np.stack(ten_crops(picture, 48, 56))).mean(0) for picture in data.pictures]
    assert not np.allclose(scores, softmax(np.stack(logits)), atol=1e-3)  # the mean of logits is something else


def test_center_scores_are_the_softmax_of_the_central_crop(data: Pictures) -> None:
    classifier = small_classifier()
    expected = [softmax_of(classifier, crops_by_pillow(picture, 48, 56)[4]) for picture in data.pictures]
    assert np.allclose(ensemble_scores([member(classifier)], data, "center"), expected, atol=1e-5)


def test_multi_scale_scores_are_the_mean_over_five_sizes(data: Pictures) -> None:
    classifier = small_classifier()
    dense = Member("m", DenseClassifier(classifier).logits, classifier.convention, classifier.classes)
    expected = []
    for picture in data.pictures[:3]:
        height, width = picture.shape[:2]
        rows = []
        for side in (224, 256, 384, 480, 640):
            scale = side / min(height, width)
            size = (int(width * scale + 0.5), int(height * scale + 0.5))
            view = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
            rows.append(softmax_of(classifier, view))
        expected.append(np.mean(rows, 0))
    few = Pictures((60, 80), (90, 70), (60, 80))
    assert np.allclose(ensemble_scores([dense], few, "multi-scale", batch_size=64), expected, atol=1e-5)


@torch.no_grad()
def test_a_residual_network_is_its_linear_layer_at_each_position_averaged() -> None:
    network = small_classifier().network
    images = torch.randn(2, 3, 96, 160)
    last = network.features(images)["c5"]
    slow = torch.zeros(2, 3)
    for row in range(last.shape[2]):
        for column in range(last.shape[3]):
            slow += network.fc(last[:, :, row, column])
    slow /= last.shape[2] * last.shape[3]
    assert last.shape[2:] == (3, 5)
    assert torch.allclose(dense_logits(network, images), slow, atol=1e-4)


@pytest.fixture(scope="module")
def small_vgg() -> VGG:
    torch.manual_seed(0)
    return VGG(SMALL_VGG, 3).eval()


@torch.no_grad()
def test_vgg_is_its_three_linear_layers_at_each_window_of_seven_averaged(small_vgg: VGG) -> None:
    images = torch.randn(2, 3, 256, 300)
    pooled = small_vgg.pool(small_vgg.features(images)["c5"])
    assert pooled.shape[2:] == (8, 9)
    rows = [
        small_vgg.classifier(pooled[:, :, top : top + 7, left : left + 7].flatten(1))
        for top in range(2)
        for left in range(3)
    ]
    assert torch.allclose(dense_logits(small_vgg, images), torch.stack(rows).mean(0), atol=1e-4)
    assert vgg_score_map(small_vgg, images).shape == (2, 3, 2, 3)


@torch.no_grad()
def test_dense_vgg_on_224_is_vgg(small_vgg: VGG) -> None:
    images = torch.randn(2, 3, 224, 224)
    assert torch.allclose(dense_logits(small_vgg, images), small_vgg(images), atol=1e-5)


def test_dense_testing_refuses_what_it_cannot_do(small_vgg: VGG) -> None:
    with pytest.raises(InputError, match=r"at least 224 x 224.*200 x 230"):
        dense_logits(small_vgg, torch.zeros(1, 3, 200, 230))

    class Foreign(Backbone):
        pass

    with pytest.raises(InputError, match="Foreign: multi-scale testing is known for"):
        dense_logits(Foreign(), torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_change_the_scores(data: Pictures, batch_size: int, workers: int) -> None:
    models = [member(small_classifier())]
    reference = ensemble_scores(models, data, "10-crop", batch_size=10)
    scores = ensemble_scores(models, data, "10-crop", batch_size, workers)
    assert np.allclose(scores, reference, atol=1e-6)
    assert np.allclose(scores.sum(1), 1, atol=1e-5)


def test_views_of_equal_size_share_batches_within_the_limit() -> None:
    seen: list[tuple[int, ...]] = []
    finished: list[int] = []

    def logits(images: Picture) -> np.ndarray:
        seen.append(images.shape[:3])
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    sizes = [(4, 4), (4, 6), (4, 4), (4, 4), (20, 20), (4, 6)]
    views = [[np.full((*size, 3), number, np.uint8)] for number, size in enumerate(sizes)]
    scores = mean_scores(logits, views, len(views), 50, finished.append)
    assert sorted(seen) == [(1, 20, 20), (2, 4, 6), (3, 4, 4)]  # one larger than the limit goes alone
    assert all(b * h * w <= 50 or b == 1 for b, h, w in seen)
    assert np.allclose(scores, 0.5)
    assert sum(finished) == len(views)


def test_rare_sizes_do_not_pile_up() -> None:
    held, most = 0, 0

    def views() -> object:
        nonlocal held, most
        for number in range(200):
            held += 1
            most = max(most, held)
            yield [np.zeros((10, 10 + number, 3), np.uint8)]

    def logits(images: Picture) -> np.ndarray:
        nonlocal held
        held -= len(images)
        return np.zeros((len(images), 2), np.float32)

    mean_scores(logits, views(), 200, 2300)  # type: ignore[arg-type]
    assert held == 0
    assert most < 150


def test_a_picture_is_finished_when_all_its_views_are() -> None:
    finished: list[int] = []
    views = [[np.zeros((4, 4, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)] for _ in range(4)]
    mean_scores(lambda x: np.zeros((len(x), 2), np.float32), views, 4, 32, finished.append)
    assert sum(finished) == 4


def test_softmax_survives_large_logits() -> None:
    assert np.allclose(softmax(np.array([[1e4, 1e4 - 1], [-1e4, 0]], np.float32)), [[0.731059, 0.268941], [0, 1]])


def test_pictures_come_in_order_and_errors_come_through() -> None:
    def slow_for_even(number: int) -> int:
        time.sleep(0.002 * (number % 2 == 0))
        return number * number

    assert list(map_ahead(slow_for_even, range(20), 3)) == [number * number for number in range(20)]

    def fail(number: int) -> int:
        raise InputError(f"picture {number}")

    with pytest.raises(InputError, match="picture 0"):
        list(map_ahead(fail, range(50), 2))


def test_long_loops_report_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 5.0, 21.0, 30.0])  # the bar's own first
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    bar, said = progress.Progress("scoring", 30, 0), []
    monkeypatch.setattr(bar, "report", lambda text: said.append((text, bar.done)))
    advance = progress.advance_and_report(bar, "pictures", every=20)
    for _ in range(3):
        advance(8)
    assert said == [("pictures", 16)]
    assert bar.done == 24


@pytest.mark.parametrize("protocol", ["10-crop", "multi-scale"])
@pytest.mark.parametrize(
    ("convention", "message"),
    [
        (
            InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32)),
            "takes whole pictures of 32x32: use --protocol center",
        ),
        (InputConvention((0.0,) * 3, (1.0,) * 3), "whole pictures of any size"),
        (InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32), resize=32), "whole pictures of 32x32"),
    ],
)
def test_networks_of_whole_pictures_have_one_protocol(protocol: str, convention: InputConvention, message: str) -> None:
    check_protocol("center", convention)
    with pytest.raises(InputError, match=message):
        check_protocol(protocol, convention)
    with pytest.raises(InputError, match=message):
        views_of(random_picture(32, 32), protocol, convention)


def test_an_ensemble_is_the_mean_of_its_models_scores(data: Pictures) -> None:
    a, b = small_classifier(1), small_classifier(2, ("c", "a", "b"))
    alone = [ensemble_scores([member(model)], data, "10-crop") for model in (a, b)]
    together = ensemble_scores([member(a), member(b)], data, "10-crop")
    assert np.allclose(together, (alone[0] + alone[1][:, [1, 2, 0]]) / 2, atol=1e-6)  # classes are matched by name


def test_each_model_of_an_ensemble_sees_its_own_framing(data: Pictures) -> None:
    seen: dict[str, set[tuple[int, ...]]] = {"a": set(), "b": set()}

    def logits_of(name: str) -> Callable[[Picture], np.ndarray]:
        def logits(images: Picture) -> np.ndarray:
            seen[name].add(images.shape[1:3])
            return np.zeros((len(images), 3), np.float32)

        return logits

    wide = InputConvention((0.0,) * 3, (1.0,) * 3, size=(64, 64), resize=72)
    models = [Member("a", logits_of("a"), CROP_48, data.classes), Member("b", logits_of("b"), wide, data.classes)]
    ensemble_scores(models, data, "center")
    assert seen == {"a": {(48, 48)}, "b": {(64, 64)}}


def test_models_of_other_classes_are_refused_by_name(data: Pictures) -> None:
    models = [member(small_classifier(1)), member(small_classifier(2, ("a", "b", "x")), "runs/second")]
    with pytest.raises(InputError, match=r"runs/second: models are averaged over the same classes.*no class 'c'"):
        ensemble_scores(models, data, "center")
    with pytest.raises(InputError, match="this one has 4, the first 3, and it has others besides"):
        columns_for(("a", "b", "c"), ("a", "b", "c", "d"), "m")


def test_labels_are_counted_as_the_model_counts_its_classes() -> None:
    labels = np.array([0, 1, 1])
    assert labels_for(labels, ("x", "y"), ("z", "y", "x"), "d").tolist() == [2, 1, 1]
    assert labels_for(labels, ("x", "y"), ("0", "1"), "d").tolist() == [0, 1, 1]  # the file names no classes
    with pytest.raises(InputError, match=r"folder:d: the model has no class 'x' \(it has 3, the data 2\)"):
        labels_for(labels, ("x", "y"), ("0", "1", "2"), "folder:d")


def test_pictures_of_another_size_lose_the_mean_pictures_average() -> None:
    convention = InputConvention((0.0,) * 3, (2.0,) * 3, size=(4, 4))
    mean = torch.arange(48, dtype=torch.float32).reshape(3, 4, 4)
    normalize = Normalize(convention, mean)
    larger = torch.full((1, 3, 6, 5), 100.0)
    expected = (100 - mean.mean((1, 2))) / 2
    assert torch.allclose(normalize(larger), expected[None, :, None, None].expand(1, 3, 6, 5))
    assert torch.equal(normalize(mean[None]), torch.zeros(1, 3, 4, 4))


def test_scores_of_ten_crops_respect_the_order_of_channels() -> None:
    picture = random_picture(60, 80)
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x.mean((2, 3))

    classifier = Classifier("spy", Spy(), Normalize(CROP_48), ("a", "b", "c"))  # type: ignore[arg-type]
    one = LabelledImages(picture[None], np.zeros(1, np.int64), ("a", "b", "c"))
    ensemble_scores([member(classifier)], one, "10-crop", batch_size=10)
    crop = ten_crops(picture, 48, 56)[0][..., ::-1].astype(np.float32)  # BGR
    expected = (crop - np.array([100, 110, 120])) / np.array([50, 60, 70])
    assert np.allclose(seen[0][0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
