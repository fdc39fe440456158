"""Ranges of shapes: in order, around the model's own scale, and the tightest one wins."""

from __future__ import annotations

from typing import Any

import pytest

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from deploy.engines.profiles import CLASSIFICATION_SCALES, Profile, largest_part, profiles_for, tightest
from tests.deploy.small_graphs import CLASSIFICATION, DETECTION

FREE = {"images": (-1, -1, -1, 3), "sizes": (-1, 2)}


def read(values: dict[str, Any]) -> ModelMetadata:
    return ModelMetadata.from_dict(values, "m.onnx")


def test_a_detector_gets_the_papers_test_scales() -> None:
    profiles = profiles_for(FREE, read(DETECTION), max_batch=4, usual_batch=2)
    assert [profile.name for profile in profiles] == ["s200", "s400", "s600", "s800", "s1000"]
    own = profiles[3]
    assert own.min == {"images": (1, 32, 32, 3), "sizes": (1, 2)}
    assert own.opt == {"images": (2, 800, 1088, 3), "sizes": (2, 2)}
    assert own.max == {"images": (4, 1344, 1344, 3), "sizes": (4, 2)}  # 1333 padded, lying or standing


def test_scales_follow_a_model_of_small_pictures() -> None:
    small = {**DETECTION, "architecture": {"input": {"shorter": 128, "longer": 128, "multiple": 32}}}
    assert [profile.max["images"][1] for profile in profiles_for(FREE, read(small))] == [32, 64, 96, 128, 160]
    images = {"images": (-1, -1, -1, 3)}
    names = [profile.name for profile in profiles_for(images, read(CLASSIFICATION))]
    assert names == ["s32", "s37", "s55", "s69", "s91", "long"]  # 224 to 640 as 32 is to 224


def test_a_classifier_takes_panoramas_one_by_one() -> None:
    large = {**CLASSIFICATION, "input": {**CLASSIFICATION["input"], "size": [224, 224]}}
    profiles = profiles_for({"images": (-1, -1, -1, 3)}, read(large), max_batch=4)
    assert [profile.name for profile in profiles] == [*(f"s{side}" for side in CLASSIFICATION_SCALES), "long"]
    assert profiles[-2].max["images"] == (4, 1280, 1280, 3)
    assert profiles[-1].max["images"] == (1, 2560, 2560, 3)
    assert profiles[-1].volume == profiles[-2].volume
    assert largest_part(profiles, {"images": (3, 640, 2000, 3)}) == 1
    assert largest_part(profiles, {"images": (9, 640, 900, 3)}) == 4
    assert largest_part(profiles, {"images": (2, 640, 3000, 3)}) == 0
    assert largest_part(profiles, {"images": ()}) == 0


def test_fixed_pictures_get_one_profile() -> None:
    (profile,) = profiles_for({"images": (-1, 32, 32, 3)}, read(CLASSIFICATION), max_batch=6)
    assert (profile.name, profile.min["images"], profile.max["images"]) == ("fixed", (1, 32, 32, 3), (6, 32, 32, 3))


def test_the_tightest_profile_is_chosen() -> None:
    profiles = profiles_for(FREE, read(DETECTION))
    for side, place in ((96, 0), (352, 0), (416, 1), (1344, 3), (1696, 4)):  # 200 comes with a longer side of 352
        assert tightest(profiles, {"images": (1, 64, side, 3), "sizes": (1, 2)}) == place
    assert tightest(profiles, {"images": (1, 64, 1728, 3), "sizes": (1, 2)}) is None
    assert tightest(profiles, {"images": (9, 64, 64, 3), "sizes": (9, 2)}) is None
    assert tightest(profiles, {"images": (1, 64, 64, 3)}) is None


def test_a_profile_survives_json() -> None:
    import json

    for profile in profiles_for(FREE, read(DETECTION)):
        assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match=r"profile p: x: needs min <= opt <= max, got \(2,\), \(1,\), \(3,\)"):
        Profile("p", {"x": (2,)}, {"x": (1,)}, {"x": (3,)})
    with pytest.raises(InputError, match="differ in rank"):
        Profile("p", {"x": (2,)}, {"x": (2, 2)}, {"x": (3,)})
    with pytest.raises(InputError, match="must name the same inputs"):
        Profile("p", {"x": (2,)}, {"x": (2,)}, {"y": (3,)})
    with pytest.raises(InputError, match="--usual-batch 9 and --max-batch 8"):
        profiles_for(FREE, read(DETECTION), usual_batch=9)
    with pytest.raises(InputError, match="--profile-scales 10: too small for this model, which sees at least"):
        profiles_for(FREE, read(DETECTION), scales=(10, 600))
    with pytest.raises(InputError, match=r"input extra \[-1, -1\]: dimension 1 is free"):
        profiles_for({**FREE, "extra": (-1, -1)}, read(DETECTION))


def test_every_view_ranges_around_its_own_side() -> None:
    inputs = {name: shape for place in ("", "_400") for name, shape in (
        (f"images{place}", (-1, -1, -1, 3)), (f"sizes{place}", (-1, 2)))}  # fmt: skip
    (profile,) = profiles_for(inputs, read({**DETECTION, "views": {"scales": [400]}}), max_batch=4)
    assert profile.name == "views"
    assert profile.opt["images_400"][1] == 416
    assert profile.opt["images"][1] > 416
    assert profile.max["sizes"] == profile.max["sizes_400"] == (4, 2)
