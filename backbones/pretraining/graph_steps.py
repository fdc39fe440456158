"""The same steps without the host: data, order and augmentation on the device, the whole step one CUDA graph.

A small network's step is hundreds of kernels of a few microseconds; launched one by one they keep the device waiting.
Recorded once and replayed they do not. On a CPU the same code runs operation by operation, so that it can be compared
with the reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from backbones.normalization import Normalize
from backbones.pretraining.augmentation import PADDING, places_in_padded
from backbones.pretraining.steps import BatchPlan, DeviceData, Learner, Means

AHEAD = 500
"""Steps whose order and keys are sent to the device at once."""
EAGER_STEPS = 11
"""Run before recording: the optimizer allocates its momenta in the first, libraries choose their kernels."""


class ImagePool:
    """All pictures normalized and padded, ready to be cropped by one gather.

    Args:
        data: on the device.
        normalize: pixels to input; the border is zero, which is the mean (section 4.2 pads after subtracting it).
        dtype: of the pool. In bf16 the first convolution would round its input anyway.
    """

    def __init__(self, data: DeviceData, normalize: Normalize, dtype: torch.dtype = torch.float32) -> None:
        self.labels, self.mirrored = data.labels, data.mirrored
        self.height, self.width = data.pixels.shape[2:]
        parts = [
            functional.pad(normalize(part), (PADDING,) * 4).to(dtype).permute(0, 2, 3, 1)
            for part in data.pixels.split(4096)
        ]
        self.pixels = torch.cat(parts).contiguous()

    def crop(self, index: Tensor, draws: Tensor) -> Tensor:
        """As ``crop_and_mirror``: images [B] and draws [B, 3] -> [B, 3, H, W], channels last."""
        rows, columns = places_in_padded(draws, self.height, self.width, self.mirrored)
        padded_height, padded_width = self.pixels.shape[1:3]
        places = (index[:, None] * padded_height + rows)[:, :, None] * padded_width + columns[:, None, :]
        return self.pixels.reshape(-1, self.pixels.shape[3])[places].permute(0, 3, 1, 2)


class GraphSteps:
    """The steps of ``EagerSteps``, recorded and replayed.

    Args:
        learner: the network and its optimizer, in fp32 or bf16.
        pool: the pictures; several seeds may share it.
        plan: of the batches.
        stream: of this run, where several share a GPU; None on a CPU.
    """

    def __init__(self, learner: Learner, pool: ImagePool, plan: BatchPlan, stream: Any = None) -> None:
        self.learner, self.pool, self.plan, self.stream = learner, pool, plan, stream
        device = pool.labels.device
        self.rate = torch.zeros((), device=device)
        self.order = torch.zeros(AHEAD, plan.batch_size, dtype=torch.int64, device=device)
        self.keys = torch.zeros(AHEAD, dtype=torch.int64, device=device)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.sent_until = -1
        self.shown_rate = -1.0
        self.eager_steps = 0
        self.graph: Any = None
        self.means: tuple[Means, Means] = ({}, {})

    def on_device(self) -> AbstractContextManager[Any]:
        """Work of this run goes to its own stream."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def batches(self, step: int, end: int) -> Iterable[int]:
        """A batch is its number."""
        if self.stream is not None:  # the pool, the weights and what is restored were written on the current stream
            self.stream.wait_stream(torch.cuda.current_stream(self.pool.labels.device))
        return range(step, end)

    def __call__(self, step: int, rate: float) -> tuple[Means, Means]:
        self._send(step)
        if rate != self.shown_rate:
            self.rate.fill_(rate)
            self.shown_rate = rate
        if self.graph is None and self.stream is not None and self.eager_steps >= EAGER_STEPS:
            self._record()
        if self.graph is not None:
            self.graph.replay()
            return self.means
        self.eager_steps += 1
        return self._step()

    def _step(self) -> tuple[Means, Means]:
        """All of it on the device: place -> order and draws -> images -> one step of SGD; then the next place."""
        index = self.order.index_select(0, self.place)[0]
        draws = self.plan.draws(self.keys.index_select(0, self.place))
        for group in self.learner.optimizer.param_groups:
            group["lr"] = self.rate
        means = self.learner.learn(self.pool.crop(index, draws), self.pool.labels[index])
        self.place.add_(1)
        return means

    def _send(self, step: int) -> None:
        """Order and keys of the steps from ``step`` on, when those on the device are used up."""
        if step < self.sent_until:
            return
        steps = range(step, step + AHEAD)
        self.order.copy_(torch.stack([self.plan.images(number) for number in steps]))
        self.keys.copy_(torch.tensor([self.plan.key(number) for number in steps]))
        self.place.zero_()
        self.sent_until = step + AHEAD

    def _record(self) -> None:
        """Record one step without running it. Gradients live in the graph's memory from here on."""
        self.learner.optimizer.zero_grad()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.means = self._step()
        self.graph = graph
