#!/usr/bin/env python
"""Our CIFAR training against a plain loop on the same batches: training loss and test error at the end.

    python tests/benchmarks/cifar_against_plain.py --dataset npz:data/cifar10_jpeg --iterations 2000 \\
        --output results/cifar_against_plain.json

Exits with 1 if loss (times 100) or test error differ by more than two points.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from backbones.data.arrays import LabelledImages
from backbones.data.datasets import read_classification
from backbones.data.order import EndlessOrder
from backbones.evaluation import rates_of
from backbones.pretraining.data import Datasets, read_datasets
from backbones.pretraining.options import TrainingOptions, resolve
from backbones.pretraining.steps import BatchPlan
from backbones.pretraining.training import train
from backbones.running.measurement import SMALL, write_measurement
from backbones.running.run_folder import RunFolder
from tests.backbones.pretraining.plain_loop import train_plainly

POINTS = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="npz:data/cifar10_jpeg")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--output", help="write a JSON file")
    arguments = parser.parse_args()
    options = resolve(
        TrainingOptions(
            dataset=arguments.dataset, arch=arguments.arch, iterations=arguments.iterations, val_split="test",
            evaluate_every=arguments.iterations, tensorboard=False, device="cpu",
        )
    )  # fmt: skip
    results = {"ours": ours(options), "plain loop": plainly(options, read_datasets(options))}
    differences = {
        "loss": abs(results["ours"]["loss"] - results["plain loop"]["loss"]) * 100,
        "test_error": abs(results["ours"]["test_error"] - results["plain loop"]["test_error"]),
    }
    reached = max(differences.values()) <= POINTS
    print(results, differences)
    if arguments.output:
        write_measurement(
            arguments.output,
            what=f"{arguments.arch}, {arguments.iterations} iterations on CIFAR-10 after JPEG: ours, and a plain loop",
            scale=SMALL,
            target={"points": POINTS, "reached": reached},
            results={**results, "points_apart": differences},
        )
    return 0 if reached else 1


def ours(options: TrainingOptions) -> dict[str, float]:
    """By the trainer."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(train(TrainingOptions(**{**vars(options), "output": f"{place}/run"})))
        records = folder.read_records()
    tail = [r["loss"] for r in records if "loss" in r and r["step"] > 0.9 * (options.iterations or 0)]
    return {"loss": float(np.mean(tail)), "test_error": records[-1]["top1_error"]}


def plainly(options: TrainingOptions, datasets: Datasets) -> dict[str, float]:
    """By the loop of the tests."""
    count, batch_size = options.iterations or 0, options.batch_size or 0
    plan = BatchPlan(EndlessOrder(len(datasets.train.labels), options.seed), batch_size, options.seed)
    drops = tuple(int(part * count) for part in options.milestones or ())
    network, mean, losses, _ = train_plainly(options.arch, datasets.train, plan, count, 0.1, drops)
    test = read_classification(options.dataset, options.val_split)
    assert isinstance(test, LabelledImages)
    return {
        "loss": float(np.mean(losses[int(0.9 * count) :])),
        "test_error": rates_of(score(network, test, mean), test.labels).top1,
    }


@torch.inference_mode()
def score(network: torch.nn.Module, data: LabelledImages, mean: np.ndarray) -> np.ndarray:
    """Logits of whole pictures."""
    network.eval()
    parts = np.array_split(data.images, 20)
    pixels = (torch.from_numpy((part - mean).transpose(0, 3, 1, 2)).float() for part in parts)
    return np.concatenate([network(part).numpy() for part in pixels])


if __name__ == "__main__":
    sys.exit(main())
