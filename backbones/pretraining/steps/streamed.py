"""Steps on pictures that stream from files (section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from backbones.convention import InputConvention
from backbones.data.labelled import EncodedPictures
from backbones.evaluation import ErrorRates
from backbones.normalization import Normalize
from backbones.pretraining.augmentation.lighting import lighting_shift, standard_normal
from backbones.pretraining.steps.learning import Learner, Means
from backbones.pretraining.streams import CentralCrops, StreamBatch, TrainingStream
from backbones.running import distributed
from backbones.running.precision import autocast


class StreamedSteps:
    """Colour, normalization and learning on the device; decoding and cropping in worker processes.

    Args:
        learner: the network and its optimizer.
        normalize: pixels to its input.
        stream: of batches.
        lighting: whether to shift colours.
        workers: processes.
        device: of the network.
    """

    def __init__(
        self,
        learner: Learner,
        normalize: Normalize,
        stream: TrainingStream,
        *,
        lighting: bool,
        workers: int,
        device: torch.device,
    ) -> None:
        self.learner, self.normalize, self.stream = learner, normalize, stream
        self.lighting, self.workers, self.device = lighting, workers, device

    def batches(self, step: int, end: int) -> Iterable[StreamBatch]:
        """The batches of steps ``step`` to ``end``."""
        loader: DataLoader[StreamBatch] = DataLoader(
            self.stream, batch_size=None, sampler=range(step, end), num_workers=self.workers,
            pin_memory=self.device.type == "cuda", prefetch_factor=4 if self.workers else None,
        )  # fmt: skip
        return loader

    def __call__(self, batch: StreamBatch, rate: float) -> tuple[Means, Means]:
        pixels = batch.images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        if self.lighting:
            draws = batch.lighting.to(self.device, non_blocking=True)
            pixels = pixels + lighting_shift(standard_normal(draws))
        self.learner.set_rate(rate)
        labels = batch.labels.to(self.device, non_blocking=True)
        return self.learner.learn(self.normalize(pixels).contiguous(memory_format=torch.channels_last), labels)


class SyntheticSteps:
    """One batch of noise on the device, again and again: the step alone, without data.

    Args:
        learner: the network and its optimizer.
        shape: [B, 3, H, W] of this process.
        classes: how many.
        device: of the network.
    """

    def __init__(self, learner: Learner, shape: tuple[int, ...], classes: int, device: torch.device) -> None:
        self.learner = learner
        self.images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(classes, (shape[0],), device=device)

    def batches(self, step: int, end: int) -> Iterable[int]:
        """A batch is its number."""
        return range(step, end)

    def __call__(self, step: int, rate: float) -> tuple[Means, Means]:
        self.learner.set_rate(rate)
        return self.learner.learn(self.images, self.labels)


@torch.inference_mode()
def evaluate_files(
    model: torch.nn.Module,
    data: EncodedPictures,
    convention: InputConvention,
    *,
    batch_size: int,
    workers: int,
    device: torch.device,
    precision: str,
) -> tuple[ErrorRates, Tensor]:
    """Error rates of central crops; each process scores a contiguous share, every picture once.

    Args:
        model: [B, 3, H, W] uint8 -> logits [B, K].
        data: picture files.
        convention: shorter side and crop.

    Returns:
        rates over all processes, and this process's logits [n, K] on the CPU.
    """
    training = model.training
    model.eval()
    distributed.copy_from_main(model.buffers())  # batch-norm statistics differ between processes
    crops = CentralCrops(data, distributed.share_of(len(data.labels)), convention, batch_size)
    scores, right = [], torch.zeros(2, device=device)
    for pixels, labels in crops.loader(workers):
        with autocast(device, precision):
            logits = model(pixels.to(device).permute(0, 3, 1, 2)).float()
        five = logits.topk(min(5, logits.shape[1]), 1).indices == labels.to(device)[:, None]
        right += torch.stack((five[:, 0].sum(), five.sum()))
        scores.append(logits.cpu())
    model.train(training)
    total = distributed.mean_over_processes(right) * distributed.world_size()
    top1, top5 = (100 * (1 - float(count) / len(data.labels)) for count in total)
    return ErrorRates(top1, top5, len(data.labels)), torch.cat(scores) if scores else torch.zeros(0, len(data.classes))
