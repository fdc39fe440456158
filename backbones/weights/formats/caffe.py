"""What the paper's authors' released networks share, in whatever file they come."""

from __future__ import annotations

from backbones.convention import InputConvention

CAFFE_INPUT = InputConvention(
    mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), channels="BGR", size=(224, 224), resize=256
)
"""BGR in 0..255 minus the mean, not divided."""
