"""docs/results.md says what results/ holds, and nothing else stands beside the paper's columns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backbones.complexity import PAPER_MULTIPLY_ADDS
from backbones.variants import VARIANTS
from results import paper_tables
from results.paper_columns import MULTIPLY_ADDS, TABLE_2, TABLE_3, TABLE_4, TABLE_6
from results.paper_tables import Results, is_papers, other_table, read_results, spread, table_2, table_3, table_6
from tests.benchmarks.collect_runs import dataset_name
from tests.benchmarks.collect_runs import main as collect

ROOT = Path(__file__).resolve().parents[1]


def entry(**changes: Any) -> dict[str, Any]:
    """A ResNet-20 under the paper's recipe on CIFAR-10, five seeds."""
    settings = {"recipe": "paper", "iterations": 64_000, "batch_size": 128, "learning_rate": 0.1, "precision": "fp32"}
    settings |= changes.pop("settings", {})
    plain = {
        "arch": "resnet20", "dataset": "cifar10", "train_split": "train", "protocol": "center", "split": "test",
        "images": 10_000, "seeds": [0, 1, 2], "top1_error": [8.0, 9.0, 8.5], "top5_error": [0.1, 0.2, 0.3],
        "train_error": [1.0, 1.0, 1.0], "seconds": [60.0, 62.0, 64.0], "gpu": "a GPU", "processor": "a CPU",
    }  # fmt: skip
    return {**plain, **changes, "settings": settings}


def imagenet(arch: str, protocol: str, top1: float, top5: float, **changes: Any) -> dict[str, Any]:
    settings = {"iterations": 600_000, "batch_size": 256, "schedule": "plateau"}
    found = {"arch": arch, "dataset": "imagenet", "split": "val", "images": 50_000, "protocol": protocol}
    return entry(**found, seeds=[0], top1_error=[top1], top5_error=[top5], settings=settings, **changes)


def cells(table: list[str], start: str) -> list[str]:
    (row,) = [line for line in table if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_the_page_equals_results() -> None:
    text = paper_tables.PAGE.read_text(encoding="utf-8")
    written = paper_tables.filled(text, read_results(ROOT / "results"))
    assert text == written, "docs/results.md differs from results/; run `make tables`"


def test_the_command_finds_the_drift() -> None:
    command = [sys.executable, str(ROOT / "results" / "paper_tables.py"), "--check"]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_each_measurement_says_where_it_comes_from() -> None:
    for path in (ROOT / "results" / "classification").glob("*.json"):
        file = json.loads(path.read_text(encoding="utf-8"))
        for name in ("what", "command", "date", "environment", "results"):
            assert file[name], f"{path.name} lacks {name}"
        assert file["environment"]["commit"]
        for found in file["results"]:
            assert len(found["seeds"]) == len(found["top1_error"]) == len(found["seconds"])


def test_table_1_is_measured() -> None:
    complexity = read_results(ROOT / "results").complexity
    assert complexity["resnet50"] == {"parameters": 25_557_032, "multiply_adds": 3_857_973_248, "size": 224}
    assert complexity["resnet1202"]["parameters"] == 19_421_274
    assert set(MULTIPLY_ADDS) | set(TABLE_6) <= set(complexity)


def test_the_papers_columns_are_those_of_the_code() -> None:
    assert {name: value * 1e9 for name, value in MULTIPLY_ADDS.items()} == {
        name: PAPER_MULTIPLY_ADDS[name] for name in MULTIPLY_ADDS
    }
    assert set(MULTIPLY_ADDS) | set(TABLE_2) | set(TABLE_3) | set(TABLE_4) | set(TABLE_6) <= set(VARIANTS)
    assert all(TABLE_3[name][0] == error for name, error in TABLE_2.items() if name in TABLE_3)


def test_empty_cells_are_what_was_not_measured() -> None:
    nothing = Results({}, [])
    assert cells(table_6(nothing), "ResNet-110") == ["1.7M", "", "6.43 (6.61 ± 0.16)", "", ""]
    assert cells(table_2(nothing), "34") == ["28.54", "", "25.03", ""]
    assert cells(table_3(nothing), "ResNet-50") == ["22.85", "", "6.71", ""]
    assert other_table(nothing) == ["Nothing yet."]


def test_measured_errors_stand_beside_the_papers_by_split_and_precision() -> None:
    table = table_6(
        Results(
            {"resnet20": {"parameters": 269_722}},
            [
                entry(),
                entry(train_split="trainval", seeds=[0], top1_error=[8.1]),
                entry(settings={"precision": "bf16"}),
            ],
        )
    )
    both = "8.00 (8.50 ± 0.50, 3 runs); 8.00 (8.50 ± 0.50, 3 runs) in bf16"
    assert cells(table, "ResNet-20") == ["0.27M", "269,722", "8.75", both, "8.10"]


def test_imagenet_errors_stand_in_the_table_of_their_protocol() -> None:
    results = Results(
        {}, [imagenet("resnet34_a", "10-crop", 25.5, 8.0), imagenet("resnet34", "multi-scale", 22.0, 5.9)]
    )
    assert cells(table_2(results), "34") == ["28.54", "", "25.03", "25.50"]
    assert cells(table_3(results), "ResNet-34 A") == ["25.03", "25.50", "7.76", "8.00"]
    assert cells(table_3(results), "ResNet-34 B") == ["24.52", "", "7.46", ""]
    assert cells(paper_tables.table_4(results), "ResNet-34 B") == ["21.84", "22.00", "5.71", "5.90"]
    assert other_table(results) == ["Nothing yet."]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "npz:cifar10_jpeg"},
        {"dataset": "npz:cifar10"},
        {"dataset": "digits"},
        {"images": 4_000},
        {"images": None},
        {"split": "val"},
        {"settings": {"recipe": "quick"}},
        {"settings": {"iterations": 2_000}},
        {"settings": {"batch_size": 1024}},
        {"settings": {"learning_rate": 0.4}},
        {"settings": {"schedule": "cosine"}},
        {"settings": {"milestones": [0.4, 0.6]}},
        {"settings": {"synthetic": True}},
        {"settings": {"weights": "other.safetensors"}},
        {"dataset": "imagenet", "split": "val", "images": 60},
    ],
    ids=str,
)
def test_other_data_and_other_recipes_never_stand_beside_the_papers(changes: dict[str, Any]) -> None:
    other = entry(**changes)
    assert is_papers(entry()) and not is_papers(other)
    results = Results({}, [other])
    for table in (table_2, table_3, paper_tables.table_4, table_6):
        assert table(results) == table(Results({}, []))
    assert len(other_table(results)) == 3


def test_the_table_of_other_data_says_what_was_measured() -> None:
    table = other_table(Results({}, [entry(dataset="npz:cifar10_jpeg")]))
    assert cells(table, "`npz:cifar10_jpeg` train") == [
        "ResNet-20", "paper, 64,000 x 128, fp32", "test, 10,000 images", "center", "8.00 (8.50 ± 0.50, 3 runs)",
        "0.10 (0.20 ± 0.10, 3 runs)", "1.00 (1.00 ± 0.00, 3 runs)", "3", "62 s, a GPU",
    ]  # fmt: skip


def test_networks_without_a_row_in_the_paper_are_still_listed() -> None:
    assert len(other_table(Results({}, [entry(arch="plain20")]))) == 3


def test_two_files_for_one_cell_are_refused() -> None:
    with pytest.raises(SystemExit, match="measured twice"):
        table_6(Results({}, [entry(), entry()]))


def test_several_runs_are_printed_as_the_paper_does() -> None:
    assert spread([6.43, 6.79]) == "6.43 (6.61 ± 0.25, 2 runs)"
    assert spread([6.43]) == "6.43"
    assert spread([None]) == spread([]) == spread(None) == ""


def write_run(path: Path, seed: int, *, dataset: str = "digits", arch: str = "resnet20", last: int = 100,
              finished: bool = True, **metrics: Any) -> Path:  # fmt: skip
    path.mkdir(parents=True)
    config = {"arch": arch, "dataset": dataset, "split": "train", "val_split": "test", "seed": seed, "weights": None}
    config |= {"recipe": "quick", "iterations": 100, "batch_size": 64, "learning_rate": 0.1, "precision": "fp32"}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "env.json").write_text(json.dumps({"processor": "a CPU", "gpu": None, "commit": f"c{seed}"}))
    records = [{"step": step, "train_error": 100.0 - step} for step in range(1, last + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if finished:
        found = {"split": "test", "top1_error": 2.0 + seed, "top5_error": 0.5, "images": 359, "seconds": 7.0, **metrics}
        (path / "metrics.json").write_text(json.dumps(found))
    return path


def test_finished_runs_become_one_entry_for_each_network(tmp_path: Path) -> None:
    for seed in (1, 0):
        write_run(tmp_path / "runs" / f"a{seed}", seed)
    other = write_run(tmp_path / "plain", 0, arch="plain20")
    output = tmp_path / "file.json"
    assert collect([str(tmp_path / "runs"), str(other), "--output", str(output)]) == 0
    file = json.loads(output.read_text())
    assert str(tmp_path) not in output.read_text()
    assert file["scale"].endswith("never beside the paper's numbers")
    assert file["environment"]["commit"] == "c0, c1"
    both, alone = file["results"]
    assert (both["arch"], both["seeds"], both["top1_error"]) == ("resnet20", [0, 1], [2.0, 3.0])
    assert (both["mean_top1_error"], both["std_top1_error"]) == (2.5, pytest.approx(0.5**0.5))
    assert both["train_error"] == [0.5, 0.5]
    assert both["seconds"] == [7.0, 7.0]
    assert both["settings"]["recipe"] == "quick" and "weights" not in both["settings"]
    assert (alone["arch"], alone["std_top1_error"]) == ("plain20", None)
    classification = tmp_path / "results" / "classification"
    classification.mkdir(parents=True)
    output.replace(classification / "file.json")
    assert len(other_table(read_results(tmp_path / "results"))) == 4


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = str(write_run(tmp_path / "digits", 0))
    other = str(write_run(tmp_path / "other", 1, dataset="npz:/data/cifar10"))
    twice = str(write_run(tmp_path / "twice", 0))
    stopped = str(write_run(tmp_path / "stopped", 2, last=60))
    unfinished = str(write_run(tmp_path / "unfinished", 3, finished=False))
    elsewhere = str(write_run(tmp_path / "elsewhere", 4, dataset="digits"))
    (Path(elsewhere) / "metrics.json").write_text('{"split": "test", "dataset": "cifar10", "top1_error": 1.0}')
    for runs, message in (
        ([digits, other], "several data sets (digits, npz:cifar10)"),
        ([digits, twice], "two runs with one seed"),
        ([stopped], "stopped at iteration 60 of 100"),
        ([unfinished], "no metrics.json"),
        ([elsewhere], "evaluated on cifar10, trained on digits"),
    ):
        assert collect(runs) == 1
        assert message in capsys.readouterr().err


def test_a_file_of_other_data_cannot_take_the_name_of_a_published_set() -> None:
    assert dataset_name("cifar10") == "cifar10"
    assert dataset_name("npz:/data/cifar10") == "npz:cifar10"
    assert dataset_name("folder:imagenet") == "folder:imagenet"
