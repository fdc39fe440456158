#!/usr/bin/env python
"""torchvision's Faster R-CNN on the digit scenes: the quickstart's scenes, batches, steps and schedule.

A ResNet-18 with torchvision's own FPN, heads, sampling and suppression, trained from scratch (torchvision has no
network pretrained on digits), with halved anchors and with the widths and counts of the digits recipe. At its default
widths it is ten times slower on these scenes.

    python tests/benchmarks/torchvision_digits.py --output results/torchvision_digits.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from backbones.running.measurement import SMALL, write_measurement
from detection.data.batches import BatchPlanner, TrainingBatches
from detection.data.digits import read_digits
from detection.detections import Detections
from detection.evaluation import score
from detection.training.job import make_schedule
from detection.training.options import TrainingOptions, resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, help="by default the recipe's")
    parser.add_argument("--learning-rate", type=float, default=0.04, help="for 16 images; ours diverges less easily")
    parser.add_argument("--output", help="write a JSON file")
    arguments = parser.parse_args()
    options = resolve(
        TrainingOptions(recipe="digits", iterations=arguments.iterations, learning_rate=arguments.learning_rate)
    )
    torch.manual_seed(0)
    model = make_model(options)
    train(model, options)
    data = read_digits("test")
    metrics = score(predict(model, data.pictures), data.annotations).metrics
    print({name: round(metrics[name], 4) for name in ("AP", "AP50", "AP75")})
    if arguments.output:
        write_measurement(
            arguments.output,
            what="torchvision's Faster R-CNN, ResNet-18 FPN at the recipe's widths, from scratch: unseen digit scenes",
            scale=SMALL,
            iterations=options.iterations,
            results={name: metrics[name] for name in ("AP", "AP50", "AP75", "VOC_mAP")},
        )


def make_model(options: TrainingOptions) -> FasterRCNN:
    """torchvision's modules, with the widths and counts of the digits recipe."""
    body = resnet18(norm_layer=torch.nn.BatchNorm2d)
    layers = {f"layer{number}": str(number - 1) for number in range(1, 5)}
    backbone = BackboneWithFPN(body, layers, [64, 128, 256, 512], options.channels)
    anchors = AnchorGenerator(tuple((size,) for size in (16, 32, 64, 128, 256)), ((0.5, 1.0, 2.0),) * 5)
    return FasterRCNN(
        backbone, min_size=128, max_size=128, rpn_anchor_generator=anchors,
        box_head=TwoMLPHead(options.channels * 49, options.vector),
        box_predictor=FastRCNNPredictor(options.vector, 11),
        box_batch_size_per_image=options.region_samples, rpn_post_nms_top_n_train=options.train_proposals,
        rpn_post_nms_top_n_test=options.test_proposals,
    )  # fmt: skip


def train(model: FasterRCNN, options: TrainingOptions) -> None:
    """The recipe's schedule and batches, torchvision's losses."""
    data = read_digits("train")
    planner = BatchPlanner(
        data.annotations.sizes, options.batch_size, options.seed, shorter=(128,), longer=128, mirrored=False
    )
    batches = TrainingBatches(data, planner)
    schedule = make_schedule(options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)
    model.train()
    for step in range(options.iterations):
        batch = batches[step]
        optimizer.param_groups[0]["lr"] = schedule.at(step * options.batch_size, options.batch_size)
        listed = [
            {"boxes": boxes[present], "labels": labels[present] + 1}
            for boxes, labels, present in zip(
                batch.targets.boxes, batch.targets.labels, batch.targets.present, strict=True
            )
        ]
        loss = sum(model([image.float() / 255 for image in batch.images], listed).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        optimizer.step()
        if step % 50 == 0:
            print(f"{step}/{options.iterations} loss {loss.item():.3f}", flush=True)


@torch.inference_mode()
def predict(model: FasterRCNN, pictures: list) -> list[Detections]:
    model.eval()
    found = []
    for picture in pictures:
        (one,) = model([torch.from_numpy(picture).permute(2, 0, 1).float() / 255])
        found.append(Detections(one["boxes"].numpy(), one["scores"].numpy(), one["labels"].numpy() - 1))
    return found


if __name__ == "__main__":
    main()
