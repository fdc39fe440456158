"""What a detector is made of, as data. Nothing here needs torch; it travels in the weights' metadata.

Defaults are those of the FPN head as model zoos train it; ``head_table`` has what is each head's own.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, TypeVar

from backbones.convention import IMAGENET, InputConvention
from backbones.metadata import DamagedMetadata, ModelMetadata

_T = TypeVar("_T")


@dataclass(frozen=True)
class AnchorSettings:
    """Reference boxes of the region proposal network.

    Attributes:
        sizes: for each feature level, the square roots of the anchors' areas, in pixels.
        ratios: height over width.
        rounded: corners at whole pixels, as in torchvision; detectron2's are not.
        whole_strides: distances between positions are the whole part of the padded picture's side over the level's,
            as in torchvision: 61 pixels where 800 give 13 rows of stride 64. Otherwise the strides themselves.
    """

    sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rounded: bool = True
    whole_strides: bool = False


@dataclass(frozen=True)
class ProposalSettings:
    """From anchors to proposals.

    Attributes:
        before_nms: best-scored boxes of each level that enter suppression.
        after_nms: proposals kept of each image.
        nms_threshold: IoU above which the weaker of two boxes goes.
    """

    before_nms: int = 1000
    after_nms: int = 1000
    nms_threshold: float = 0.7


@dataclass(frozen=True)
class SamplingSettings:
    """Which candidates a loss sees.

    Attributes:
        count: candidates drawn of each image.
        positive_fraction: of them at most this share is positive.
        positive_iou: a candidate with at least this IoU is positive.
        negative_iou: one below this IoU (and not below ``negative_floor``) is negative; between, it is ignored.
        negative_floor: Fast R-CNN's lower bound for negatives (0.1 on VOC in the paper).
        keep_best: the best candidate of each object is positive whatever its IoU.
    """

    count: int
    positive_fraction: float
    positive_iou: float
    negative_iou: float
    negative_floor: float = 0.0
    keep_best: bool = False


@dataclass(frozen=True)
class OutputSettings:
    """From scored regions to detections.

    Attributes:
        score_threshold: scores at or below it are dropped.
        nms_threshold: IoU above which the weaker of two boxes of one class goes.
        max_detections: of each image.
        candidates: best-scored (region, class) pairs of each image that enter suppression.
        refine: box refinement (appendix B): regressed boxes are pooled, scored and regressed again, and both sets
            enter suppression.
        vote: box voting: a kept box becomes the mean, weighted by score, of the boxes of its class with at least this
            IoU; 0 leaves it as it is.
        soft: width of soft suppression's Gaussian (Bodla et al. 2017), in place of the hard one; 0 for the hard one.
    """

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    candidates: int = 1000
    refine: bool = False
    vote: float = 0.0
    soft: float = 0.0


@dataclass(frozen=True)
class PoolSettings:
    """From a region to a grid of features.

    Attributes:
        size: bins along each side.
        sampling_ratio: samples along each side of a bin; 0 takes one for each feature-map pixel (detectron2's).
        aligned: pixel centres at half-integers (the corrected form); torchvision's weights want False.
        kind: ``align`` (He et al. 2017) or ``pool``, the paper's RoI pooling: the maximum over whole pixels.
    """

    size: int = 7
    sampling_ratio: int = 2
    aligned: bool = True
    kind: Literal["align", "pool"] = "align"


@dataclass(frozen=True)
class MaskSettings:
    """The mask branch (He et al. 2017, section 3).

    Attributes:
        pool: of the regions that get a mask; the C4 head pools as it does for boxes.
        convs: 3x3 convolutions before the deconvolution.
        channels: width of them and of the deconvolution.
        whole_pixels: masks are pasted into boxes rounded to whole pixels, as torchvision does.
    """

    pool: PoolSettings = PoolSettings(size=14)
    convs: int = 4
    channels: int = 256
    whole_pixels: bool = False


@dataclass(frozen=True)
class InputSettings:
    """The size at which the network sees an image.

    Attributes:
        shorter: the shorter side at test time, in pixels.
        longer: a limit on the longer side.
        multiple: sizes are padded to a multiple of this, the coarsest stride.
    """

    shorter: int = 800
    longer: int = 1333
    multiple: int = 32

    @classmethod
    def of(cls, metadata: ModelMetadata) -> InputSettings:
        """What a detector's or a segmenter's file says."""
        return from_plain(cls, metadata.architecture["input"])


@dataclass(frozen=True)
class ModelSettings:
    """What the settings of every model have: enough to build it again.

    Attributes:
        backbone: a name from ``list_backbones()``.
        classes: names, in the order of the labels.
    """

    backbone: str
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``to_dict``, after a trip through JSON."""
        return from_plain(cls, values)

    @classmethod
    def of(cls, metadata: ModelMetadata) -> Self:
        """What a model's file says.

        Raises:
            InputError: no version of this project says it so.
        """
        try:
            settings = cls.from_dict(metadata.architecture)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedMetadata(metadata.file, f"{type(error).__name__}: {error}") from error
        stored = getattr(settings, "score_thresholds", ())
        if metadata.classes != settings.classes or len(stored) not in (0, len(settings.classes)):
            raise DamagedMetadata(metadata.file, "the numbers of its classes and of what it says of them differ")
        if not all(isinstance(least, int | float) and 0 <= least <= 1 for least in stored):
            raise DamagedMetadata(metadata.file, f"score_thresholds {stored}")
        return settings


@dataclass(frozen=True)
class DetectorSettings(ModelSettings):
    """A whole detector: enough to build it again.

    Attributes:
        backbone: a name from ``list_backbones()``.
        head: ``fpn``, ``c4`` (conv5 on each region) or ``vgg`` (fc6 and fc7 on each region).
        classes: names, in the order of the labels 0..K-1.
        category_ids: the ids that the training set's files use, by label.
        convention: pixel normalization, from the pretrained weights.
        masks: the mask branch, or None.
        context: global context (appendix B): the whole image's vector beside each region's.
        channels: width of the feature pyramid.
        vector: width of the linear layers of the FPN and VGG heads.
        rpn_convs: 3x3 convolutions of the region proposal network.
        box_convs: 3x3 convolutions before the linear layers of the FPN head.
        box_linears: linear layers of the FPN head.
        neck_norm: batch normalization in the pyramid and behind the FPN head's convolutions.
        dropout: behind each linear layer of the VGG head.
        frozen_norm: batch normalization with fixed statistics (appendix A), or trained along.
        roi_beta: where smooth L1 turns from quadratic to linear, for regions; 0 is plain L1.
        rpn_beta: the same for anchors.
        score_thresholds: for each class the score of the best F1 on validation data; empty where none was chosen.
        OF_TRAINING: fields that a run has from its recipe, even where it starts from another detector's weights.
    """

    OF_TRAINING: ClassVar = (
        "input", "train_proposals", "test_proposals", "rpn_sampling", "roi_sampling", "output", "score_thresholds",
    )  # fmt: skip

    category_ids: tuple[int, ...] = ()
    head: str = "fpn"
    convention: InputConvention = IMAGENET
    input: InputSettings = InputSettings()
    anchors: AnchorSettings = AnchorSettings()
    pool: PoolSettings = PoolSettings()
    train_proposals: ProposalSettings = ProposalSettings(2000, 1000)
    test_proposals: ProposalSettings = ProposalSettings(1000, 1000)
    rpn_sampling: SamplingSettings = SamplingSettings(256, 0.5, 0.7, 0.3, keep_best=True)
    roi_sampling: SamplingSettings = SamplingSettings(512, 0.25, 0.5, 0.5)
    output: OutputSettings = OutputSettings()
    masks: MaskSettings | None = None
    context: bool = False
    channels: int = 256
    vector: int = 1024
    rpn_convs: int = 1
    box_convs: int = 0
    box_linears: int = 2
    neck_norm: bool = False
    dropout: float = 0.5
    frozen_norm: bool = True
    rpn_beta: float = 1 / 9
    roi_beta: float = 1 / 9
    score_thresholds: tuple[float, ...] = ()


def default_settings(backbone: str, classes: tuple[str, ...], head: str = "fpn", **changes: Any) -> DetectorSettings:
    """The settings of a head as today's model zoos train it.

    Args:
        backbone: a name.
        classes: names in the order of the labels.
        head: ``fpn``, ``c4`` or ``vgg``.
        **changes: fields of ``DetectorSettings`` that shall differ.
    """
    from detection.head_table import HEADS  # made of the classes above

    return DetectorSettings(backbone, classes, **{"head": head, **HEADS[head].settings, **changes})


def from_plain(cls: type[_T], values: dict[str, Any]) -> _T:
    """A dataclass from what ``dataclasses.asdict`` gave, after a trip through JSON: lists become tuples."""
    hints = typing.get_type_hints(cls)
    built = {}
    for name, value in values.items():
        kind = hints[name]
        if typing.get_origin(kind) is types.UnionType:  # a part or None
            kind = type(None) if value is None else typing.get_args(kind)[0]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            built[name] = from_plain(kind, value)
        else:
            built[name] = _as_tuple(value)
    return cls(**built)


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(part) for part in value) if isinstance(value, list) else value


def exportable_settings(settings: DetectorSettings) -> DetectorSettings:
    """The nearest settings that an exported graph can have.

    RoIAlign with as many samples as a region has pixels becomes RoIAlign with two along each side of a bin, as
    torchvision and this project take them, and pictures are padded to multiples of 32, which detectron2's C4 detectors
    leave as they are.
    """
    masks = settings.masks
    return replace(
        settings,
        input=replace(settings.input, multiple=max(settings.input.multiple, InputSettings().multiple)),
        pool=_fixed(settings.pool),
        masks=masks and replace(masks, pool=_fixed(masks.pool)),
    )


def _fixed(pool: PoolSettings) -> PoolSettings:
    return pool if pool.sampling_ratio else replace(pool, sampling_ratio=2)
