"""Detectors from settings and from files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.errors import InputError
from backbones.freezing import freeze_stages
from detection.building import build_detector, describe, load_detector, save_detector
from detection.settings import DetectorSettings, default_settings
from tests.detection.builders import small_detector


def test_detectors_survive_a_round_trip(tmp_path: Path) -> None:
    for head in ("fpn", "c4"):
        detector = small_detector(head).eval()
        save_detector(detector, tmp_path / "d.safetensors", metrics={"AP": 0.5})
        again = load_detector(tmp_path / "d.safetensors")
        assert again.settings == detector.settings
        picture = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
        assert torch.equal(detector.predict(picture, threshold=0).boxes, again.predict(picture, threshold=0).boxes)


def test_settings_survive_json() -> None:
    settings = default_settings("resnet50", ("a", "b"), "c4", category_ids=(3, 9))
    assert DetectorSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_other_files_are_no_detectors(tmp_path: Path) -> None:
    from backbones import build_backbone, save_weights
    from backbones.weights.model_file import write_model

    save_weights(build_backbone("resnet20", 10), tmp_path / "c.safetensors", "resnet20")
    with pytest.raises(InputError, match=r"not a detector; detection/train\.py --weights .* makes one"):
        load_detector(tmp_path / "c.safetensors")
    write_model(tmp_path / "d.safetensors", {"a": torch.zeros(1)}, describe(small_detector()))
    with pytest.raises(InputError, match="tensors missing, 1 left over"):
        load_detector(tmp_path / "d.safetensors")


def test_pretrained_weights_bring_their_convention(tmp_path: Path) -> None:
    from backbones import build_backbone, save_weights
    from backbones.convention import InputConvention

    network = build_backbone("resnet20", 10)
    convention = InputConvention((10.0, 20.0, 30.0), (2.0, 3.0, 4.0), size=(32, 32))
    save_weights(network, tmp_path / "c.safetensors", "resnet20", convention=convention)
    detector = build_detector(small_detector().settings, tmp_path / "c.safetensors")
    assert detector.normalize.mean.flatten().tolist() == [10, 20, 30]
    assert detector.settings.convention.size is None
    assert torch.equal(detector.head.backbone.stem.conv.weight, network.stem.conv.weight)


@pytest.mark.parametrize(("head", "first_learned"), [("fpn", "conv3_x"), ("c4", "conv3_x"), ("vgg", "conv3_x")])
def test_first_stages_learn_nothing_whatever_the_network(head: str, first_learned: str, tmp_path: Path) -> None:
    detector = small_detector(head)
    freeze_stages(detector.backbone, 2)
    backbone = detector.head.backbone
    learned = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert learned[0].startswith(first_learned)
    norms = [type(m).__name__ for n, m in backbone.named_modules() if n.endswith(("bn", "bn1"))]
    assert norms == [] or (norms[0], norms[-1]) == ("FrozenBatchNorm2d", "BatchNorm2d")
    save_detector(detector, tmp_path / "d.safetensors")  # what is frozen has fewer buffers than what is not
    assert load_detector(tmp_path / "d.safetensors").settings == detector.settings
    with pytest.raises(InputError, match="cannot freeze 9 stages: the network has"):
        freeze_stages(detector.backbone, 9)
