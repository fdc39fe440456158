"""Section 4.2 as a plain loop: the slow, obvious version that the training code is held against."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from backbones.building import build_backbone
from backbones.data.arrays import LabelledImages
from backbones.pretraining.steps import BatchPlan


def one_picture(image: np.ndarray, mean: np.ndarray, draws: np.ndarray, mirrored: bool) -> np.ndarray:
    """[H, W, 3] uint8 -> [3, H, W]: subtract the mean, pad by zeros, cut, perhaps mirror."""
    height, width = image.shape[:2]
    padded = np.pad((image.astype(np.float32) - mean).transpose(2, 0, 1), ((0, 0), (4, 4), (4, 4)))
    top, left = int(draws[0] * 9), int(draws[1] * 9)
    cut = padded[:, top : top + height, left : left + width]
    return cut[:, :, ::-1] if mirrored and draws[2] < 0.5 else cut


def train_plainly(
    arch: str, data: LabelledImages, plan: BatchPlan, steps: int, rate: float, drops: tuple[int, ...] = ()
) -> tuple[torch.nn.Module, np.ndarray, list[float], list[float]]:
    """Train on the same batches as a plan says.

    Returns:
        the network, the mean picture, and the loss and the error (in per cent) of every step.
    """
    torch.manual_seed(plan.seed)
    network = build_backbone(arch, len(data.classes)).train()
    mean = data.images.astype(np.float64).mean(0).astype(np.float32)
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    losses, errors = [], []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.1 ** sum(step >= drop for drop in drops)
        draws = plan.draws(torch.tensor([plan.key(step)])).numpy()
        chosen = plan.images(step).numpy()
        pictures = [one_picture(data.images[n], mean, d, data.mirrored) for n, d in zip(chosen, draws, strict=True)]
        labels = torch.from_numpy(data.labels[chosen])
        logits = network(torch.from_numpy(np.stack(pictures)))
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        errors.append(100 * (logits.argmax(1) != labels).float().mean().item())
    return network, mean, losses, errors
