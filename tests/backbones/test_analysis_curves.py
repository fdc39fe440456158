"""Figs. 1, 4 and 6: from the records of run folders to lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from backbones.analysis.curves import draw_curves, end_values, evaluated, fitting_top, moved_apart
from backbones.analysis.names import display_name, is_plain
from backbones.analysis.run_records import Curve, Network, bring_together, find_runs, read_run
from backbones.analyze import main as analyze
from backbones.errors import InputError

SETTINGS = {"dataset": "cifar10", "split": "train", "val_split": "test", "recipe": "paper", "batch_size": 128,
            "iterations": 400, "learning_rate": 0.1, "precision": "fp32"}  # fmt: skip


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def write_run(
    path: Path, arch: str, seed: int = 0, *, offset: float = 0.0, steps: int = 400, train: bool = True, **more: Any
) -> Path:
    """A run that records its training error each 50 iterations and its test error each 100."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, "arch": arch, "seed": seed, **more}))
    records: list[dict[str, Any]] = []
    for step in range(50, steps + 1, 50):
        if train:
            records.append(
                {"step": step, "learning_rate": 0.1, "loss": 1.0, "train_error": max(2, 40 - step / 20) + offset}
            )
        if step % 100 == 0:
            records.append({"step": step, "top1_error": max(5, 45 - step / 20) + offset, "top5_error": 1.0})
    (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def networks_of(*paths: Path) -> list[Network]:
    return bring_together([read_run(path) for path in paths])


def test_seeds_of_one_network_become_a_mean_and_a_deviation(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"s{seed}", "resnet20", seed, offset=seed) for seed in range(3)]
    (network,) = networks_of(*runs)
    assert network.label == "ResNet-20"
    assert [run.seed for run in network.runs] == [0, 1, 2]
    assert network.test is not None and network.train is not None
    assert network.test.steps.tolist() == [100, 200, 300, 400]
    assert network.test.mean.tolist() == [41.0, 36.0, 31.0, 26.0]
    assert network.test.deviation.tolist() == [1.0] * 4
    assert network.train.steps.tolist() == list(range(50, 401, 50))
    (alone,) = networks_of(runs[0])
    assert alone.test is not None
    assert alone.test.deviation.tolist() == [0.0] * 4


def test_the_mean_ends_where_the_first_seed_stops(tmp_path: Path) -> None:
    (network,) = networks_of(
        write_run(tmp_path / "a", "plain20", 0), write_run(tmp_path / "b", "plain20", 1, steps=200)
    )
    assert network.test is not None
    assert network.test.steps.tolist() == [100, 200]


def test_what_differs_besides_the_seed_makes_another_line_and_stands_in_its_label(tmp_path: Path) -> None:
    networks = networks_of(
        write_run(tmp_path / "a", "resnet20"),
        write_run(tmp_path / "b", "resnet20", recipe="quick", batch_size=64),
        write_run(tmp_path / "c", "resnet32"),
    )
    assert [network.label for network in networks] == [
        "ResNet-20, paper, batch size 128", "ResNet-20, quick, batch size 64", "ResNet-32",
    ]  # fmt: skip


def test_mixed_data_is_named(tmp_path: Path) -> None:
    networks = networks_of(
        write_run(tmp_path / "a", "resnet20"), write_run(tmp_path / "b", "resnet32", dataset="digits")
    )
    assert [network.label for network in networks] == ["ResNet-20, cifar10", "ResNet-32, digits"]


def test_plain_and_residual_networks_stand_in_two_panels(tmp_path: Path) -> None:
    names = ("plain20", "plain56", "resnet20", "resnet56")
    figure = draw_curves(networks_of(*(write_run(tmp_path / name, name) for name in names)))
    left, right = figure.axes
    assert [left.get_title(), right.get_title()] == ["plain networks", "residual networks"]
    assert left.get_ylabel() == "error (%)"
    assert left.get_ylim() == right.get_ylim()
    for axis, prefix in ((left, "plain-"), (right, "ResNet-")):
        assert [text.get_text() for text in axis.get_legend().get_texts()] == [f"{prefix}20", f"{prefix}56"]
        train, test, *_ = axis.lines
        assert train.is_dashed() and not test.is_dashed()
        assert test.get_linewidth() > train.get_linewidth()
        assert [text.get_fontweight() for text in axis.texts] == ["bold", "bold"]
        assert {text.get_text() for text in axis.texts} == {"25.00"}
    assert [line.get_color() for line in left.lines] == [line.get_color() for line in right.lines]


def test_more_than_1000_layers_stand_beside_110(tmp_path: Path) -> None:
    names = ("resnet20", "resnet110", "resnet1202")
    figure = draw_curves(networks_of(*(write_run(tmp_path / name, name) for name in names)))
    legends = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes]
    assert legends == [["ResNet-20", "ResNet-110"], ["ResNet-110", "ResNet-1202"]]


def test_training_and_test_error_can_have_a_panel_each(tmp_path: Path) -> None:
    networks = networks_of(write_run(tmp_path / "a", "plain20"), write_run(tmp_path / "b", "plain56"))
    left, right = draw_curves(networks, panels="error").axes
    assert [left.get_title(), right.get_title()] == ["training error", "test error"]
    assert all(line.is_dashed() for line in left.lines)
    assert not any(line.is_dashed() for line in right.lines)


def test_the_axis_counts_in_ten_thousands_where_the_runs_are_long(tmp_path: Path) -> None:
    (short,) = draw_curves(networks_of(write_run(tmp_path / "a", "resnet20"))).axes
    assert short.get_xlabel() == "iter."
    (long,) = draw_curves(networks_of(write_run(tmp_path / "b", "resnet20", steps=64_000))).axes
    assert long.get_xlabel() == "iter. (1e4)"
    assert long.get_xlim() == (0, 6.4)
    assert max(len(line.get_xdata()) for line in long.lines if line.is_dashed()) <= 160


def test_several_seeds_get_a_band(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), "resnet20", seed, offset=seed) for seed in range(2)]
    (axis,) = draw_curves(networks_of(*runs)).axes
    assert len(axis.collections) == 2
    (axis,) = draw_curves(networks_of(runs[0])).axes
    assert not axis.collections


def test_runs_without_training_error_still_show_their_test_error(tmp_path: Path) -> None:
    (axis,) = draw_curves(networks_of(write_run(tmp_path / "a", "resnet20", train=False))).axes
    assert [line.is_dashed() for line in axis.lines] == [False]


def test_an_error_on_validation_data_is_not_called_test_error(tmp_path: Path) -> None:
    test, val = write_run(tmp_path / "a", "resnet20"), write_run(tmp_path / "b", "resnet32", val_split="val")
    assert evaluated(networks_of(test)) == "test"
    assert evaluated(networks_of(test, val)) == "validation"
    assert end_values(networks_of(val))["ResNet-32"]["evaluated"] == "val"


def test_points_are_averaged_in_equal_bins() -> None:
    curve = Curve(np.arange(10, 80, 10), np.arange(7.0)[None])
    binned = curve.binned(3)
    assert binned.steps.tolist() == [10, 40, 70]
    assert binned.values.tolist() == [[0.0, 2.0, 5.0]]
    assert curve.binned(7) is curve


def test_the_first_fifth_does_not_decide_the_axis(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "resnet20")
    records = [{"step": step, "top1_error": 90.0 if step < 200 else 7.0} for step in range(10, 1001, 10)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert fitting_top(networks_of(run), 1000) == 10.0


def test_end_values_do_not_overlap() -> None:
    assert moved_apart([], 1.0) == []
    assert moved_apart([1.0, 5.0], 1.0) == [1.0, 5.0]
    assert moved_apart([5.0, 5.2], 1.0) == pytest.approx([4.6, 5.6])
    heights = moved_apart([1.0, 1.1, 1.2, 2.9, 9.0], 1.0)
    assert all(b - a >= 0.999 for a, b in pairwise(heights))
    assert heights[-1] == 9.0
    assert moved_apart([0.0, 0.1], 1.0) == [0.0, 1.0]


def test_networks_are_called_as_in_the_paper() -> None:
    names = {"resnet110": "ResNet-110", "plain20": "plain-20", "resnet34_c": "ResNet-34 C", "vgg16": "VGG-16",
             "resnet50_v15": "ResNet-50 v1.5", "theirs": "theirs"}  # fmt: skip
    assert {name: display_name(name) for name in names} == names
    assert is_plain("plain20") and not is_plain("resnet20") and not is_plain("theirs")


def test_a_folder_of_runs_stands_for_its_runs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "all" / f"seed{seed}", "resnet20", seed) for seed in range(2)]
    assert find_runs([str(tmp_path / "all"), str(runs[0])]) == runs


def test_folders_without_curves_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    detector = write_run(tmp_path / "detector", "resnet20")
    (detector / "metrics.jsonl").write_text('{"step": 1, "AP": 0.5}\n')
    broken = write_run(tmp_path / "broken", "resnet20")
    (broken / "config.yaml").write_text("a: [")
    for folders, message in (
        ([], "give --run"),
        ([str(tmp_path / "empty")], r"empty: no records \(metrics.jsonl\)"),
        ([str(tmp_path / "absent")], "absent: no records"),
        ([str(detector)], "records no train_error and no top1_error"),
        ([str(broken)], "not a run folder"),
    ):
        with pytest.raises(InputError, match=message):
            [read_run(path) for path in find_runs(folders)]


def test_the_command_draws_prints_and_writes_the_end_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        write_run(tmp_path / "runs" / f"r{seed}", "resnet20", seed, offset=seed)
    output = tmp_path / "curves.png"
    assert analyze(["curves", "--run", str(tmp_path / "runs"), "--output", str(output), "--quiet"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row == ["ResNet-20", "2", "20.50", "+-", "0.71", "25.50", "+-", "0.71"]
    assert output.read_bytes().startswith(b"\x89PNG")
    written = json.loads(output.with_suffix(".json").read_text())["results"]["ResNet-20"]
    assert written["top1_error"] == {"step": 400, "mean": 25.5, "std": pytest.approx(0.5**0.5)}
    assert analyze(["curves", "--run", str(tmp_path / "runs"), "--top", "200"]) == 1
    assert "--top is an error in per cent" in capsys.readouterr().err
