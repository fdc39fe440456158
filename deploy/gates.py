"""How close an exported file must come to the trained model, by precision."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """What is allowed.

    Attributes:
        agreement: least share of detections that have a counterpart, on either side.
        overlap: IoU above which boxes are counterparts.
        score: largest difference of their scores.
        logits: largest difference of classifiers' outputs, over the largest value.
        pixels: least share of pixels with the same label.
        loss: largest loss of AP, top-1 or mIoU on labelled data, in points; with such data it decides instead.
    """

    agreement: float
    overlap: float
    score: float
    logits: float
    pixels: float
    loss: float


GATES = {
    "fp32": Gate(0.995, 0.99, 1e-3, 1e-5, 0.999, 0.1),
    "fp16": Gate(0.98, 0.99, 1e-3, 1e-2, 0.99, 0.1),
    "bf16": Gate(0.9, 0.9, 0.05, 0.05, 0.97, 0.1),
    "int8": Gate(0.8, 0.8, 0.15, 0.2, 0.95, 0.5),
    "fp8": Gate(0.8, 0.8, 0.15, 0.2, 0.95, 0.5),
}
"""Eight bits move scores by more than a thousandth, so from bf16 down a counterpart may lie further away."""


@dataclass(frozen=True)
class Verdict:
    """What one field of a gate says of a file in one engine.

    Attributes:
        gate: the field: ``agreement``, ``pixels``, ``logits`` or ``loss``.
        engine: that ran the file, with its version.
        value: what was measured.
        limit: what is allowed: at least so much ``agreement`` or ``pixels``, at most so much ``logits`` or ``loss``.
        summary: for people.
    """

    gate: str
    engine: str
    value: float
    limit: float
    summary: str

    @property
    def used(self) -> float:
        """The share of what is allowed to differ that does: above 1 the file fails, below 0 it gained."""
        shares = self.gate in ("agreement", "pixels")
        differs, allowed = (1 - self.value, 1 - self.limit) if shares else (self.value, self.limit)
        return differs / max(allowed, 1e-12)

    @property
    def passed(self) -> bool:
        return self.value >= self.limit if self.gate in ("agreement", "pixels") else self.value <= self.limit
