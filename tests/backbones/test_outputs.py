"""Where commands write: nothing that is read, and nothing that another wrote, is lost by a slip."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from backbones.running.command_line import OutputOptions, option
from backbones.running.known_files import (
    is_figure,
    is_report,
    json_lines_with,
    json_with,
    measurement_of,
    never,
    safetensors_with,
    save_png,
)  # fmt: skip
from backbones.running.measurement import write_measurement
from backbones.running.outputs import RECORD, Kind, Outputs, output_files, recording
from backbones.running.report import Report

METRICS = Kind("metrics.json", json_with("dataset", "split"))
FIGURE = Kind("figure.png", is_figure, beside=(".json", json_with("numbers")))
OURS = json.dumps({"dataset": "digits", "split": "val", "AP": 0.5})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str = "mine") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(message: str, given: str, kind: Kind = METRICS, **settings: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Outputs(**settings).file("--output", given, kind)  # type: ignore[arg-type]
    assert str(caught.value).startswith("--output")
    assert "\n" not in str(caught.value)


def test_a_name_ends_as_its_kind_does_and_a_folder_takes_the_usual_one() -> None:
    Path("results").mkdir()
    assert Outputs().file("--output", "a/b.json", METRICS) == Path("a/b.json")
    assert Outputs().file("--output", "results", METRICS) == Path("results/metrics.json")
    assert Outputs().file("--output", "new/", METRICS) == Path("new/metrics.json")
    for given in ("noend", "model.safetensors", ".json", "b.JSON"):
        refused(f"{given}: give a name that ends in .json", given)
    assert [path.name for path in Path().iterdir()] == ["results"]  # nothing is made before work starts


def test_what_this_command_wrote_is_replaced_and_what_others_wrote_only_on_request() -> None:
    for text in ("mine", "[]", '{"dataset": "digits"}', ""):
        write("m.json", text)
        refused(
            "m.json: exists, and this command did not write it; choose another --output, or .* --overwrite", "m.json"
        )
    assert Outputs(overwrite=True).file("--output", "m.json", METRICS) == Path("m.json")
    write("m.json", OURS)
    assert Outputs().file("--output", "m.json", METRICS) == Path("m.json")
    Path("link.json").symlink_to("absent")
    refused("link.json: exists", "link.json")


@pytest.mark.parametrize("way", ["model.json", "link.json", "hard.json", "folder/../model.json"])
def test_what_is_read_is_never_written_over(way: str) -> None:
    model = write("model.json", OURS)
    Path("folder").mkdir()
    Path("link.json").symlink_to(model)
    os.link(model, "hard.json")
    refused("is read by this command", way, reads=["absent", None, model], overwrite=True)
    refused("is read by this command", way, data=["npz:model.json"], overwrite=True)


def test_a_run_folder_keeps_what_its_training_wrote() -> None:
    write("run/config.yaml")
    write("run/metrics.json", OURS)
    write("run/model.safetensors")
    refused("run/metrics.json: exists, and this command did not write it", "run")
    weights = Kind("model.safetensors", lambda path: True)
    refused("model.safetensors: is read by this command", "run", weights, reads=["run"], overwrite=True)
    refused("model.safetensors: exists", "run", weights)
    assert Outputs().file("--output", "run/test.json", METRICS) == Path("run/test.json")


def test_within_data_that_is_read_overwriting_does_not_help() -> None:
    write("VOC/mine.json")
    write("VOC/ours.json", OURS)
    refused("lies in the data that is read", "VOC/mine.json", data=["voc:VOC"], overwrite=True)
    assert Outputs(data=["voc:VOC"]).file("--output", "VOC/ours.json", METRICS)


def test_folders_on_the_way_are_made_not_replaced() -> None:
    write("file")
    refused("file is a file; choose another --output", "file/metrics.json")
    refused("file is a file; choose another --output", "file/deep/metrics.json")
    Path("folder.json").mkdir()
    assert Outputs().file("--output", "folder.json", METRICS) == Path("folder.json/metrics.json")
    with pytest.raises(InputError, match="--output file: is a file; name a folder"):
        Outputs().folder("--output", "file")


def test_the_folder_of_now_and_the_root_are_folders() -> None:
    for given in (".", "./", "/"):
        assert Outputs().folder("--output", given, ["found.json"]) == Path(given)
    assert Outputs().new_folder("--output", ".") == Path()


def test_two_outputs_have_two_names_and_what_lies_beside_counts() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Options(OutputOptions):
        output: str | None = option(None, "numbers", group="output")
        plot: str | None = option(None, "a figure", group="output")

    asked = Options(output="a.json", plot="b.png")
    assert output_files(asked, output=METRICS, plot=FIGURE) == asked
    assert output_files(Options(), output=METRICS, plot=FIGURE) == Options()
    with pytest.raises(InputError, match=r"--plot a.json: --output writes there too; give them different names"):
        output_files(Options(output="./a.json", plot="a.png"), output=METRICS, plot=FIGURE)
    write("b.json")
    with pytest.raises(InputError, match=r"--plot b.json: exists"):
        output_files(asked, output=METRICS, plot=FIGURE)
    assert output_files(Options(plot="b.png", overwrite=True), plot=FIGURE).plot == "b.png"


def test_a_folder_remembers_what_commands_wrote_in_it() -> None:
    write("out/mine.txt")
    names = ["a.txt", "labels/b.txt", "whole/"]
    folder = Outputs().folder("--output", "out", names)
    with pytest.raises(InputError, match=r"out/mine.txt: exists"):
        Outputs().folder("--output", "out", ["mine.txt"])
    with recording(folder, names):
        write("out/a.txt")
        write("out/whole/inner.txt")
    assert json.loads((folder / RECORD).read_text())["names"] == ["a.txt", "whole/"]
    Outputs().folder("--output", "out", names)
    write("out/labels/b.txt")
    with pytest.raises(InputError, match=r"labels/b.txt: exists"):
        Outputs().folder("--output", "out", names)
    Path("out/whole/inner.txt").rename("out/inner.txt")
    (folder / RECORD).unlink()
    Outputs().folder("--output", "out", ["whole/"])  # empty by now
    with recording(Path("nothing"), ["a"]):
        pass
    assert list(Path("nothing").iterdir()) == []


def test_files_of_each_kind_are_told_from_others() -> None:
    """One that we wrote, and one that we did not."""
    from safetensors.numpy import save_file

    write_measurement("m.json", "speeds", [1])
    assert measurement_of("speeds")(Path("m.json"))
    assert not measurement_of("sizes")(Path("m.json"))
    report = Report("t")
    report.write(Path("r.html"))
    assert is_report(Path("r.html"))
    assert not is_report(write("o.html", "<html><title>t</title></html>"))
    save_png(np.zeros((2, 2, 3), np.uint8), Path("p.png"))
    Image.new("RGB", (2, 2)).save("o.png")
    assert is_figure(Path("p.png"))
    assert not is_figure(Path("o.png"))
    assert not is_figure(write("x.png"))
    assert json_lines_with("picture")(write("l.jsonl", '{"picture": 1}\n{"other": 2}\n'))
    assert not json_lines_with("picture")(write("o.jsonl", '{"other": 1}\n'))
    save_file({"a": np.zeros(1, np.float32)}, "w.safetensors", {"shortcut": '{"origin": "x"}'})
    assert safetensors_with("origin")(Path("w.safetensors"))
    assert not safetensors_with("statistics")(Path("w.safetensors"))
    assert not safetensors_with("origin")(write("o.safetensors"))
    assert not never(Path("m.json"))
