"""Batches: planned purely, read and padded exactly, the same however processes share them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backbones.images import resize
from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.data.batches import GROUPED_BATCHES, BatchPlanner, TrainingBatches


def planner(sizes: list[tuple[int, int]], batch: int = 4, **settings: object) -> BatchPlanner:
    own = {"shorter": (40, 48), "longer": 100, "mirrored": True, **settings}
    return BatchPlanner(np.array(sizes), batch, 7, **own)  # type: ignore[arg-type]


def made_data(count: int = 6) -> DetectionData:
    rng = np.random.default_rng(0)
    builder, pictures = AnnotationBuilder(("a", "b")), []
    for number in range(count):
        size = (30, 50) if number % 2 else (60, 40)
        pictures.append(rng.integers(0, 255, (*size, 3), np.uint8))
        for _ in range(number):
            builder.add_object((1.0, 2.0, 20.0, 25.0), number % 2, ignored=number == 3)
        builder.add_image(f"{number}", number, size)
    return DetectionData("made", builder.build(), pictures)


def test_plans_are_functions_of_seed_and_step() -> None:
    sizes = [(30, 50), (60, 40)] * 10
    first = planner(sizes)
    plans = [first.plan(step) for step in range(70)]
    for step in (69, 3, 40):
        again = planner(sizes).plan(step)
        assert np.array_equal(again.images, plans[step].images)
        assert (again.shorter, again.mirrored, again.padded) == (
            plans[step].shorter, plans[step].mirrored, plans[step].padded,
        )  # fmt: skip
    assert {side for plan in plans for side in plan.shorter} == {40, 48}
    assert 0.3 < np.mean([mirrored for plan in plans for mirrored in plan.mirrored]) < 0.7


def test_every_image_comes_once_an_epoch_and_orientations_are_grouped() -> None:
    count = 4 * GROUPED_BATCHES
    plan = planner([(30, 50)] * (count // 2) + [(60, 40)] * (count // 2))
    plans = [plan.plan(step) for step in range(GROUPED_BATCHES)]
    assert sorted(np.concatenate([p.images for p in plans]).tolist()) == list(range(count))
    mixed = sum(len({int(i) < count // 2 for i in p.images}) > 1 for p in plans)
    assert mixed <= 1


def test_few_sizes_hold_every_batch() -> None:
    """Landscapes, portraits, and the batches where they meet: three sizes, and nothing else in the plan changes."""
    sizes = [(30, 50), (60, 40), (10, 90), (33, 47), (40, 40)] * 9
    free, few = planner(sizes), planner(sizes, few_sizes=True)
    plans = [(free.plan(step), few.plan(step)) for step in range(2 * GROUPED_BATCHES)]
    for own, wide in plans:
        assert np.array_equal(own.images, wide.images)
        assert (own.shorter, own.mirrored) == (wide.shorter, wide.mirrored)
        assert all(a <= b for a, b in zip(own.padded, wide.padded, strict=True))
    assert {wide.padded for _, wide in plans} == {(64, 128), (96, 64), (96, 128)}
    assert len({own.padded for own, _ in plans}) > 3
    one = planner([(30, 50)] * 8, few_sizes=True)
    assert {one.plan(step).padded for step in range(9)} == {(64, 96)}


def test_padding_fits_every_image_of_the_global_batch() -> None:
    plan = planner([(30, 50), (60, 40), (10, 90)]).plan(0)
    assert plan.padded[0] % 32 == plan.padded[1] % 32 == 0
    assert plan.padded[1] <= 128


def test_fewer_images_than_a_batch_repeat() -> None:
    assert sorted(planner([(30, 50)] * 2).plan(0).images.tolist()) == [0, 0, 1, 1]


def test_batches_hold_resized_mirrored_padded_images() -> None:
    data = made_data()
    plan = planner([(60, 40), (30, 50)] * 3, batch=6)
    batches = TrainingBatches(data, plan)
    for step in range(3):
        batch, expected = batches[step], plan.plan(step)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert tuple(batch.images.shape[2:]) == expected.padded
        for row, image in enumerate(expected.images):
            height, width = batch.targets.sizes[row].tolist()
            picture = resize(data.pictures[image], (height, width))
            if expected.mirrored[row]:
                picture = picture[:, ::-1]
            assert np.array_equal(batch.images[row, :, :height, :width].permute(1, 2, 0).numpy(), picture)
            assert batch.images[row].sum() == int(picture.sum())
            count = int(image)
            objects = batch.targets.present[row] | batch.targets.ignored[row]
            assert objects.sum() == count
            assert bool(batch.targets.ignored[row].any()) == (image == 3)
            if count:
                original = data.annotations.size(int(image))
                x1, x2 = np.array([1.0, 20.0]) * width / original[1]
                if expected.mirrored[row]:
                    x1, x2 = width - x2, width - x1
                assert batch.targets.boxes[row, 0, 0::2].tolist() == pytest.approx([x1, x2], abs=1e-4)


def test_processes_share_one_global_batch() -> None:
    data = made_data()
    arguments = {"sizes": [(60, 40), (30, 50)] * 3, "batch": 4}
    whole = TrainingBatches(data, planner(**arguments))[5]
    halves = [TrainingBatches(data, planner(**arguments), rank, 2)[5] for rank in range(2)]
    assert torch.equal(torch.cat([half.images for half in halves]), whole.images)
    assert torch.equal(torch.cat([half.targets.keys for half in halves]), whole.targets.keys)
    assert halves[0].numbers + halves[1].numbers == whole.numbers


def test_ignored_objects_can_be_learned() -> None:
    batches = TrainingBatches(made_data(4), planner([(60, 40), (30, 50)] * 2), learn_ignored=True)
    batch = next(batches[step] for step in range(9) if 3 in batches[step].numbers)
    assert not batch.targets.ignored.any()
    assert batch.targets.present.sum() == sum(batch.numbers)  # picture n has n objects


def test_slots_come_in_multiples_of_eight() -> None:
    batch = TrainingBatches(made_data(), planner([(60, 40), (30, 50)] * 3))[0]
    assert batch.targets.boxes.shape[1] == 8
    assert TrainingBatches(made_data(1), planner([(60, 40)]))[0].targets.boxes.shape[1] == 8
