"""One step of training: in parts, averaged, started from another detector, and left out where it is no number."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.running.run_folder import RunFolder
from detection.building import save_detector
from detection.data.batches import Batch
from detection.detector import Detector
from detection.loss_counts import counts_of_parts
from detection.settings import MaskSettings, PoolSettings, SamplingSettings
from detection.targets import Targets
from detection.training.job import FiniteWatch, TrainingJob, parts_of
from detection.training.options import TrainingOptions, resolve
from detection.training.run import copy_weights, prepare
from detection.training.tasks import task_of
from tests.detection.builders import SIZE, random_targets, small_detector
from tests.detection.training_runs import few_scenes, small_run

CPU = torch.device("cpu")


def random_batch(count: int, masks: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    targets = random_targets(count, 8, seed=3)
    if masks:
        grids = torch.randint(0, 256, (*targets.labels.shape, 28, 28), dtype=torch.uint8, generator=generator)
        targets = replace(targets, masks=grids)
    return Batch(images, targets, tuple(range(count)))


def gradients(detector: Detector, batch: Batch, parts: int) -> tuple[dict[str, Tensor], list[Tensor]]:
    detector.zero_grad()
    divided = parts_of(batch, parts, CPU)
    counts = counts_of_parts([detector.loss_counts(part.images, part.targets) for part in divided])
    sums: dict[str, Any] = {}
    for part in divided:
        losses = detector.losses(part.images, part.targets, counts if parts > 1 else None)
        (torch.stack(list(losses.values())).sum() / parts).backward()
        sums = {name: sums.get(name, 0) + loss.detach() / parts for name, loss in losses.items()}
    return sums, [p.grad.clone() for p in detector.parameters() if p.grad is not None]


@pytest.mark.parametrize("head", ["fpn", "c4", "vgg"])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In double precision; also where pictures draw different numbers of regions, with global context and masks."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    masks = {"fpn": MaskSettings(PoolSettings(7), 1, 8), "c4": MaskSettings(convs=0, channels=8), "vgg": None}[head]
    drawing = SamplingSettings(64, 0.25, 0.5, 0.5, negative_floor=0.05)  # more than there are
    detector = small_detector(
        head, frozen_norm=True, masks=masks, context=head == "fpn", dropout=0.0, roi_sampling=drawing
    ).double()
    batch = random_batch(4, masks=masks is not None)
    batch = replace(batch, targets=replace(batch.targets, boxes=batch.targets.boxes.double()))
    whole, parts = gradients(detector, batch, 1), gradients(detector, batch, 4)
    counts = [detector.loss_counts(part.images, part.targets).regions.item() for part in parts_of(batch, 4, CPU)]
    assert len(set(counts)) > 1
    assert whole[0].keys() == parts[0].keys()
    for name, loss in whole[0].items():
        assert parts[0][name].item() == pytest.approx(loss.item(), abs=1e-9), name
    for a, b in zip(whole[1], parts[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)


def job_of(tmp_path: Path, **changes: Any) -> TrainingJob:
    options = resolve(TrainingOptions(output=str(tmp_path), **small_run(**changes)))
    data = few_scenes("train")
    return TrainingJob(options, prepare(task_of(options), data, CPU), data, None, RunFolder(tmp_path), CPU)


def test_steps_in_parts_end_where_whole_steps_do(tmp_path: Path) -> None:
    jobs = [job_of(tmp_path, batch_size=4, accumulate=parts, batch_norm="frozen") for parts in (1, 2)]
    for _ in range(2):
        seen = [job.train_step(next(iter(job.batches())))[0] for job in jobs]
        assert {name: loss.item() for name, loss in seen[0].items()} == pytest.approx(
            {name: loss.item() for name, loss in seen[1].items()}, abs=1e-5
        )
        for job in jobs:
            job.state.step += 1
    for a, b in zip(*(job.model.parameters() for job in jobs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_counting_leaves_the_running_statistics(tmp_path: Path) -> None:
    job = job_of(tmp_path, batch_size=4, accumulate=2, batch_norm="trained")
    norm = next(m for m in job.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    job._counts(parts_of(next(iter(job.batches())), 2, CPU))
    assert torch.equal(norm.running_mean, before)
    assert norm.momentum == 0.1


def test_batches_that_cannot_be_divided_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--batch-size 4 cannot be divided among 1 processes of 3 parts each"):
        job_of(tmp_path, batch_size=4, accumulate=3).batches()


def test_the_average_of_the_weights_is_evaluated(tmp_path: Path) -> None:
    job = job_of(tmp_path, ema=0.5)
    live = dict(job.model.named_parameters())["predictor.classes.weight"]
    expected = live.detach().clone()
    for update in range(1, 4):
        job.train_step(next(iter(job.batches())))
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * live.detach()
    assert job.state.average is not None
    trained = live.detach().clone()
    with job.state.average.applied():
        torch.testing.assert_close(live.detach(), expected)
    assert torch.equal(live, trained)


def test_a_gradient_that_is_no_number_is_left_out_until_the_device_is_asked(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    job.watch.every = 3  # as on a GPU, where asking is dear
    before = [parameter.detach().clone() for parameter in job.model.parameters()]
    weight = job.model.predictor.classes.weight
    broken = weight.register_hook(lambda gradient: gradient * float("inf"))
    job.train_step(next(iter(job.batches())))
    broken.remove()
    for a, b in zip(before, job.model.parameters(), strict=True):
        assert torch.equal(a, b)
    job.state.step += 1
    job.train_step(next(iter(job.batches())))
    assert not torch.equal(before[-1], list(job.model.parameters())[-1])  # a later step is made
    assert all(parameter.isfinite().all() for parameter in job.model.parameters())
    with pytest.raises(InputError, match=r"iteration 1: the gradient is not finite \(.*\); images: \d.png, \d.png"):
        job.evaluate()


def test_finite_steps_are_forgotten() -> None:
    watch = FiniteWatch(few_scenes("train").annotations.names, CPU)
    for step in range(3):
        assert watch.note(step, {"a": torch.tensor(1.0)}, torch.tensor(2.0), [0]) == 0
    with pytest.raises(InputError, match=r"iteration 4: a loss is not finite \(a inf\); images: 3.png"):
        watch.note(3, {"a": torch.tensor(float("inf"))}, None, [2])


def test_weights_are_copied_by_class_names(caplog: pytest.LogCaptureFixture) -> None:
    branch = MaskSettings(PoolSettings(7), 1, 8)
    source = small_detector(classes=("cat", "Dog", "ox"), masks=branch)
    target = small_detector(classes=("dog", "yak", "cat", "emu"), masks=branch)
    torch.nn.init.normal_(source.predictor.classes.weight)
    torch.nn.init.normal_(source.head.fc6.weight)
    fresh = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with caplog.at_level(logging.INFO, logger="shortcut"):
        logging.getLogger("shortcut").propagate = True
        copy_weights(source, target, "runs/x")
    theirs, ours = source.state_dict(), target.state_dict()
    for layer in ("predictor.classes.weight", "predictor.classes.bias"):
        assert torch.equal(ours[layer][[0, 1, 3]], theirs[layer][[0, 2, 1]])  # background, dog, cat
        assert torch.equal(ours[layer][[2, 4]], fresh[layer][[2, 4]])
    for layer, each in (("predictor.deltas.weight", 4), ("masks.logits.weight", 1)):
        a, b, c = (tensors[layer].unflatten(0, (-1, each)) for tensors in (ours, theirs, fresh))
        assert torch.equal(a[[0, 2]], b[[1, 0]])
        assert torch.equal(a[[1, 3]], c[[1, 3]])
    assert torch.equal(ours["head.fc6.weight"], theirs["head.fc6.weight"])
    assert "classes: 2 of 4 are known to it; new: yak, emu" in caplog.text
    assert "tensors from runs/x\n" in caplog.text


def test_what_does_not_fit_is_listed(caplog: pytest.LogCaptureFixture) -> None:
    source, target = small_detector(vector=16), small_detector(vector=32, classes=("a", "new"))
    with caplog.at_level(logging.INFO, logger="shortcut"):
        logging.getLogger("shortcut").propagate = True
        copy_weights(source, target, "runs/x")
    assert "not taken: " in caplog.text
    assert "head.fc6.weight" in caplog.text
    assert torch.equal(target.rpn.objectness.weight, source.rpn.objectness.weight)


def test_a_run_starts_from_another_detector(tmp_path: Path) -> None:
    source = small_detector(classes=("b", "x"))
    save_detector(source, tmp_path / "d.safetensors")
    given = {**small_run(), "weights": None, "init_from": str(tmp_path / "d.safetensors")}
    for name in ("backbone", "head", "channels", "vector"):
        del given[name]
    options = resolve(TrainingOptions(**given), source.settings)
    data = few_scenes("train")
    state = prepare(task_of(options), data, CPU, source)
    assert isinstance(state.model, Detector)
    assert state.model.classes == ("a", "b", "c")
    assert torch.equal(state.model.predictor.classes.weight[2], source.predictor.classes.weight[1])
    assert torch.equal(state.model.head.fc6.weight, source.head.fc6.weight)


def test_targets_without_masks_are_cut_too() -> None:
    first, second = parts_of(random_batch(4), 2, CPU)
    assert isinstance(first.targets, Targets)
    assert (first.numbers, second.numbers) == ((0, 1), (2, 3))
    assert second.targets.masks is None
