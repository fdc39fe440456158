"""What a tour measures, in the order of value for a second of a GPU's time."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

import torch
from matplotlib import pyplot

from backbones.running.report import Report
from tests.benchmarks.gpu import classifiers, detectors, engines
from tests.benchmarks.gpu.data import BCCD, CIFAR, COCO, PLANS, WEIGHTS
from tests.benchmarks.gpu.item import Finding, Item, Place, Record
from tests.gpu.checks import COMPILING, QUICK, Check


def run_checks(place: Place, record: Record, *, checks: dict[str, Check]) -> Finding:
    """The functions of ``tests/gpu``, whichever of them fail; in a rehearsal one, since the suite has them all."""
    faults, chosen = {}, list(checks.items())[: place.size(None, 1)]
    for name, check in chosen:
        try:
            record.once(name, lambda check=check: _seconds(check, place))
        except Exception as error:  # one fault must not hide the others
            faults[name] = " ".join(str(error).split())[:160]
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    if faults:
        raise AssertionError("; ".join(f"{name}: {fault}" for name, fault in faults.items()))
    return Finding(f"{len(chosen)} checks hold", True)


def _seconds(check: Check, place: Place) -> float:
    begun = time.perf_counter()
    check(place.torch_device)
    return round(time.perf_counter() - begun, 2)


def _recipe(arch: str, seconds: float | None, limit: float, least: float) -> Item:
    target = f"at most {seconds:.0f} s on an H200" if seconds else ""
    return Item(
        arch, f"{arch} by the whole recipe of section 4.2 in bf16, on CIFAR-10 after JPEG", target, limit, least,
        partial(classifiers.recipe, arch=arch, seconds=seconds), (CIFAR,), goes_on=True,
        kept_as=f"classification/{CIFAR}_{arch}.json",
    )  # fmt: skip


def _blood_cells(seed: int) -> Item:
    target = f"test AP {detectors.BCCD_AP:.2f}, AP50 {detectors.BCCD_AP50:.2f}"
    return Item(
        f"bccd_{seed}", f"BCCD with resnet50_v15 FPN, chosen on val, seed {seed}", target, 260, 200,
        partial(detectors.bccd, seed=seed), (BCCD, WEIGHTS),
    )  # fmt: skip


ITEMS = (
    Item("smoke", "checks of tests/gpu that compile nothing", "all hold", 90, 20, partial(run_checks, checks=QUICK)),
    Item(
        "faster_rcnn", "R50-FPN at 800 x 1333, batch 16, both bf16, ours compiled: our time over torchvision's",
        f"{detectors.RATIO} for training step and inference", 300, 120, detectors.against_torchvision,
    ),
    _recipe("resnet20", 60, 150, 20),
    Item(
        "graph_speed", "CIFAR steps per second as one CUDA graph in bf16 over a plain eager loop in fp32",
        "5 times for ResNet-20, 2.5 for ResNet-110", 90, 40, classifiers.graph_speed,
    ),
    Item(
        "coco_training", "R50-FPN by the 1x recipe on coco100, batch 16, bf16: images per second, waiting, graphs",
        "at most 4 graphs", 330, 60, detectors.coco_training, (COCO, WEIGHTS),
    ),
    Item(
        "resnet50_step", "ResNet-50's compiled step in bf16, batch 256: rate over torchvision's, share of the peak",
        "1.0", 150, 70, classifiers.resnet50_step,
    ),
    Item(
        "deployed_detector", "R50-FPN inference at batch 1, 8, 16 in bf16, with CUDA graphs, against eager torchvision",
        f"{detectors.TIMES} times", 330, 90, detectors.deployed,
    ),
    _recipe("plain20", None, 150, 20),
    _recipe("plain56", None, 300, 20),
    _recipe("resnet56", None, 300, 20),
    _recipe("resnet110", 300, 420, 20),
    *(_blood_cells(seed) for seed in range(3)),
    Item(
        "r101_c4", "R101-C4 by the paper's recipe from scratch, coco100, batch 16, bf16: rate and memory", "", 150, 60,
        detectors.paper_detector, (COCO,),
    ),
    Item(
        "resnet1202", "ResNet-1202 for 500 iterations with checkpointed activations: rate and memory", "", 330, 120,
        classifiers.deepest, (CIFAR,),
    ),
    Item(
        "engines", "TensorRT-RTX engines deserialised, run and compared with ONNX Runtime", "98 % alike", 120, 20,
        engines.run_engines, (PLANS,), obstacle=engines.cannot_run,
    ),
    Item(
        "compiled_checks", "checks of tests/gpu that compile", "all hold", 330, 60,
        partial(run_checks, checks=COMPILING),
    ),
)  # fmt: skip


def measure(item: Item, place: Place) -> None:
    """What happens in an item's process."""
    os.chdir(place.output)
    Report.plot = _undrawn  # type: ignore[method-assign]
    if place.tiny:
        torch.set_num_threads(1)
        torch.compile = _compiler(place.backend)
    record = Record(item, place)
    finding = item.measure(place, record)
    record.finish(finding)
    print(finding.summary)


def _undrawn(report: Report, figure: Any, caption: str, file: object = None) -> None:
    """Reports of runs stay on the machine and nobody sees them; drawing them would take a second each."""
    pyplot.close(figure)


def _compiler(backend: str) -> Any:
    """``torch.compile`` of a rehearsal: by another backend, or not at all."""
    if backend == "none":
        return lambda function=None, **_: function
    whole = torch.compile
    return lambda function=None, mode=None, **settings: whole(function, backend=backend, **settings)
