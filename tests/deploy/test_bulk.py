"""Bulk prediction: nothing lost, nothing twice, the same detections as ``predict``, whenever it is killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from deploy import load_runtime
from deploy.bulk.options import BulkOptions
from deploy.bulk.parts import PartFolder
from deploy.bulk.worker import Work, Worker, failed_row, shown_name
from deploy.export_options import ExportOptions
from deploy.exporting import export
from detection.building import save_detector
from detection.data.digits import compose_scene
from detection.detections import Detections
from tests.conftest import ROOT
from tests.deploy.test_export import taught

needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="needs ray[data]")
FORMATS = ["jsonl", pytest.param("parquet", marks=pytest.mark.skipif(not find_spec("pyarrow"), reason="needs pyarrow"))]
LEAST = 0.3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_detector(taught("fpn"), folder / "model.safetensors")
    return export(ExportOptions(model=str(folder), quiet=True))


def write_scenes(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        scene = compose_scene("val", number).image
        Image.fromarray(scene[: 128 - 16 * (number % 3)]).save(folder / f"{number:04d}.png", compress_level=1)
    (folder / "0001-torn.png").write_bytes((folder / "0001.png").read_bytes()[:300])
    (folder / "0002-text.jpg").write_text("not a picture")
    return folder


def row(name: str, score: float | None = None, **more: Any) -> dict[str, Any]:
    box = {"class": "a", "score": score, "box": [1.0, 2.0, 3.5, 4.25]}
    return {"file": name, "height": 9, "width": 8, "error": None, "detections": [{**box, **more}] if score else []}


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="give --model"):
        BulkOptions()
    with pytest.raises(InputError, match="--part-size 0: must be at least 1"):
        BulkOptions(model="m.onnx", part_size=0)


def test_names_that_are_no_text_stay_distinct() -> None:
    assert shown_name(os.fsdecode(b"a\xff.png")) == "a\\udcff.png"
    assert shown_name("ä.png") == "ä.png"


@pytest.mark.parametrize("suffix", FORMATS)
def test_parts_keep_rows_as_they_are(tmp_path: Path, suffix: str) -> None:
    rows = [
        row("a", 0.5),
        row("b"),
        failed_row("c", "torn\n file"),
        row("d", 0.25, mask={"size": [9, 8], "counts": "0H"}),
    ]
    folder = PartFolder(tmp_path / "out", suffix)
    with folder.locked():
        assert not folder.begin({"model": 1}).files
        parts = [folder.write(rows[:3]), folder.write(rows[3:])]
    assert [part.name for part in parts] == [f"part-00000{number}.{suffix}" for number in (0, 1)]
    assert [found for part in folder.parts() for found in folder.read(part)] == rows
    assert rows[2]["error"] == "torn file"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_run_goes_on_behind_its_whole_parts(tmp_path: Path, suffix: str) -> None:
    first = PartFolder(tmp_path, suffix)
    first.begin({"model": 1})
    first.write([row("a", 0.5), failed_row("b", "torn")])
    (tmp_path / f"part-000001.{suffix}.partial").write_text("what a killed run was writing")
    second = PartFolder(tmp_path, suffix)
    done = second.begin({"model": 1})
    assert (done.files, done.faults, done.objects) == ({"a", "b"}, {"b": "torn"}, 1)
    assert second.write([row("c")]).name == f"part-000001.{suffix}"
    assert not list(tmp_path.glob("*.partial"))


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    folder = PartFolder(tmp_path / "run", "jsonl")
    with folder.locked():
        folder.begin({"model_sha256": "1", "engine": "e"})
        with (
            pytest.raises(InputError, match="another run is writing here"),
            PartFolder(folder.folder, "jsonl").locked(),
        ):
            pass
    with pytest.raises(InputError, match="holds a run with another model sha256"):
        PartFolder(folder.folder, "jsonl").begin({"model_sha256": "2", "engine": "e"})
    part = folder.write([row("a")])
    folder.write([row("a")])
    with pytest.raises(InputError, match="a: is twice in the output"):
        PartFolder(folder.folder, "jsonl").begin({"model_sha256": "1", "engine": "e"})
    part.write_text('{"file"')
    with pytest.raises(InputError, match=r"part-000000.jsonl: damaged .* delete it"):
        PartFolder(folder.folder, "jsonl").begin({"model_sha256": "1", "engine": "e"})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(InputError, match="holds files of something else"):
        PartFolder(tmp_path / "other", "jsonl").begin({})


def test_a_worker_gives_each_picture_a_row(model: Path, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 7)
    names = [*sorted(map(str, folder.iterdir())), str(folder / "absent.png")]
    work = Work(str(model), None, 1, (LEAST, math.inf, LEAST), 5, 3)
    rows = {found["file"]: found for found in Worker(work).rows(names)}
    assert sorted(rows) == sorted(names)
    faults = {Path(name).name for name, found in rows.items() if found["error"]}
    assert faults == {"0001-torn.png", "0002-text.jpg", "absent.png"}
    readable = [name for name in names if not rows[name]["error"]]
    runtime = load_runtime(model)
    for name, found in zip(readable, runtime.predict(readable, 3, threshold=0), strict=True):
        kept = found.above((LEAST, math.inf, LEAST))[:5]
        assert rows[name]["detections"] == kept.to_json(runtime.classes)
        assert (rows[name]["height"], rows[name]["width"]) == np.asarray(Image.open(name)).shape[:2]
    assert sum(len(found["detections"]) for found in rows.values()) > 10


def test_a_worker_needs_neither_torch_nor_ray() -> None:
    code = "import sys, deploy.bulk.worker, deploy.bulk.parts, deploy.bulk.running; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "ray", "pyarrow"} & set(loaded.split())


def read_rows(output: Path, suffix: str) -> dict[str, dict[str, Any]]:
    """All rows by name, of which there are no two."""
    folder = PartFolder(output, suffix)
    rows = [found for part in folder.parts() for found in folder.read(part)]
    by_name = {found["file"]: found for found in rows}
    assert len(by_name) == len(rows)
    return by_name


def assert_same(
    output: Path, suffix: str, pictures: list[Path], found: list[Detections], classes: tuple[str, ...]
) -> None:
    rows = read_rows(output, suffix)
    for picture, detections in zip(pictures, found, strict=True):
        assert rows[str(picture)]["detections"] == detections.above(LEAST).to_json(classes)


@needs_ray
def test_the_command_lists_what_it_cannot_read(
    model: Path, tmp_path: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    folder = write_scenes(tmp_path / "scenes", 6)
    arguments = (folder, "--model", model, "--threshold", LEAST, "--workers", 1, "--output", tmp_path / "out")
    for _ in range(2):  # the second has nothing left to do, and says the same
        run = run_script("deploy/batch.py", *arguments, "--part-size", 3, "--quiet")
        assert run.returncode == 1
        assert "0001-torn.png: cannot be decoded" in run.stderr
        assert (
            "error: 2 of the inputs could not be read; each is listed with its reason, the others are done"
            in run.stderr
        )
        runtime = load_runtime(model)
        pictures = sorted(folder.glob("000?.png"))
        assert_same(tmp_path / "out", "parquet", pictures, runtime.predict(pictures, threshold=0), runtime.classes)
        assert len(read_rows(tmp_path / "out", "parquet")) == 8
        assert len(list((tmp_path / "out").glob("part-*"))) == 3


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_two_thousand_scenes_survive_being_killed(model: Path, tmp_path: Path, suffix: str) -> None:
    """Acceptance: killed twice at any moment, then run to its end; every picture once, as ``predict`` sees it."""
    folder, output = write_scenes(tmp_path / "scenes", 2000), tmp_path / "out"
    command = [sys.executable, str(ROOT / "deploy" / "batch.py"), str(folder), "--model", str(model), "--quiet",
               "--threshold", str(LEAST), "--workers", "1", "--part-size", "150", "--format", suffix,
               "--output", str(output)]  # fmt: skip
    for kill in (1, 2):
        run = subprocess.Popen(command)
        while len(list(output.glob(f"part-*.{suffix}"))) < 4 * kill and run.poll() is None:
            time.sleep(0.05)
        assert run.poll() is None, "it was done before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.wait()
        done = read_rows(output, suffix)
        assert 0 < len(done) < 2002
    assert subprocess.run(command).returncode == 1  # two cannot be read
    rows = read_rows(output, suffix)
    assert set(rows) == set(map(str, folder.iterdir()))
    assert {Path(name).name for name, found in rows.items() if found["error"]} == {"0001-torn.png", "0002-text.jpg"}
    assert all(rows[name] == found for name, found in done.items())
    pictures = sorted(path for path in folder.iterdir() if len(path.stem) == 4)
    runtime = load_runtime(model, threads=1)
    assert_same(output, suffix, pictures, runtime.predict(pictures, threshold=0), runtime.classes)
    about = json.loads((output / "run.json").read_text())
    assert about["thresholds"] == [LEAST] * 3
