"""What may be set at test time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backbones.errors import InputError
from detection.inference_switches import Switches, with_switches
from detection.settings import InputSettings, OutputSettings, default_settings

SETTINGS = default_settings("resnet50", ("a", "b"))


def test_nothing_given_changes_nothing() -> None:
    assert with_switches(SETTINGS, Switches()) == SETTINGS
    assert Switches().given() == []


def test_what_is_given_replaces_fields() -> None:
    switches = Switches(True, 0.5, 0.4, 0.3, 50, 400)
    expected = OutputSettings(nms_threshold=0.3, max_detections=50, refine=True, vote=0.5, soft=0.4)
    assert with_switches(SETTINGS, switches) == replace(SETTINGS, output=expected, input=InputSettings(400, 666))
    assert switches.given() == ["--refine", "--vote", "--soft-nms", "--nms", "--max-detections", "--test-shorter"]


def test_zero_and_no_switch_off() -> None:
    on = replace(SETTINGS, output=OutputSettings(refine=True, vote=0.5, soft=0.5))
    assert with_switches(on, Switches(refine=False, vote=0.0, soft_nms=0.0)) == SETTINGS


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        (Switches(vote=1.5), "--vote 1.5: must lie in 0 to 1"),
        (Switches(nms=float("nan")), "--nms nan"),
        (Switches(soft_nms=-1), "--soft-nms -1"),
        (Switches(max_detections=0), "--max-detections 0: must lie in 1 to 10000"),
        (Switches(test_shorter=5), "--test-shorter 5"),
    ],
)
def test_values_out_of_range_are_refused(switches: Switches, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_switches(SETTINGS, switches)
