"""The tour of a GPU: rehearsed whole, and what it does with items that hang, crash, or are done already."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from backbones.errors import InputError
from backbones.pretraining.options import resolve as resolve_classifier
from backbones.running.atomic_write import write_json
from backbones.running.command_line import Interrupted
from backbones.running.interrupts import noticing_interrupts
from deploy.engines.plan_metadata import sha256_of
from detection.training.options import TrainingOptions as DetectorOptions
from detection.training.options import resolve as resolve_detector
from tests.benchmarks import cifar_runs, collect_gpu, gpu_tour
from tests.benchmarks.gpu import classifiers, data, detectors, engines, packages, processes, travel
from tests.benchmarks.gpu.item import Finding, Item, Place, Record
from tests.benchmarks.gpu.items import ITEMS
from tests.benchmarks.gpu.processes import Outcome
from tests.conftest import ROOT
from tests.deploy.stand_in_models import write_classifier, write_detector

Measure = Callable[[Place, Record], Finding]


def test_the_rehearsal_passes_and_may_not_be_collected(tmp_path: Path) -> None:
    """Every item, on the CPU, without packages that the machine lacks."""
    (tmp_path / "data/plans").mkdir(parents=True)
    write_classifier(tmp_path / "data/plans/classifier.onnx")
    write_detector(tmp_path / "data/plans/detector.onnx")
    script = str(ROOT / "tests/benchmarks/gpu_tour.py")
    command = [sys.executable, script, "--rehearse", "--minutes", "60", "--data", "data", "--output", "out"]
    command += ["--parts", "parts"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    rows = json.loads((tmp_path / "out/status.json").read_text())
    faults = {name: row["message"] for name, row in rows.items() if row["status"] != "done"}
    assert not faults, done.stdout + done.stderr
    assert list(rows) == [item.name for item in ITEMS]
    for item in ITEMS:
        text = item.file(tmp_path / "out").read_text()
        assert json.loads(text)["complete"]
        assert str(tmp_path) not in text, "no path of a machine"
    assert collect_gpu.main([str(tmp_path / "parts"), "--results", str(tmp_path / "results")]) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("rehearsed", [True, False])
def test_a_rehearsal_and_a_tour_do_not_share_an_output(tmp_path: Path, rehearsed: bool) -> None:
    """What a rehearsal found would count as measured."""
    write_json(tmp_path / "results/smoke.json", {"complete": True, **({"rehearsal": True} if rehearsed else {})})
    gpu_tour._refuse_mixing(tmp_path, rehearsed)
    with pytest.raises(InputError, match=r"holds results of .* \(smoke.json\); choose another --output"):
        gpu_tour._refuse_mixing(tmp_path, not rehearsed)


def test_a_rehearsal_writes_nothing_where_the_real_data_lies(tmp_path: Path) -> None:
    (tmp_path / "real" / data.PLANS).mkdir(parents=True)
    made = data.rehearsal_data(tmp_path / "real", tmp_path / "made")
    assert [path.name for path in (tmp_path / "real").iterdir()] == [data.PLANS]
    assert (made / data.PLANS).is_symlink()
    assert (made / data.CIFAR).is_dir()
    assert data.rehearsal_data(tmp_path / "real", tmp_path / "made") == made  # a second rehearsal


def test_an_engine_is_compared_with_the_file_that_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with one of its own name: the ONNX file of ``model-fp16.plan`` is ``model-portable-fp16.onnx``."""
    source = tmp_path / "model-portable-fp16.onnx"
    source.write_bytes(b"graph")
    record = SimpleNamespace(onnx=source.name, onnx_sha256=sha256_of(source))
    monkeypatch.setattr(engines, "read_plan", lambda path: (b"", {}, record))
    assert engines.source_of(tmp_path / "model-fp16.plan") == source
    assert engines.source_of(source) == source


class Begun(Exception):
    """A training has got its options."""


TRAININGS = [item for item in ITEMS if item.needs and item.obstacle is None]


@pytest.mark.parametrize("item", TRAININGS, ids=lambda item: item.name)
def test_the_trainings_of_a_tour_have_options_that_hold(
    item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In full size, as far as can be known without a GPU."""

    def begin(options: object) -> None:
        resolved = (resolve_detector if isinstance(options, DetectorOptions) else resolve_classifier)(options)
        assert (resolved.device, resolved.precision) == ("cuda", "bf16")
        raise Begun

    for module in (classifiers, detectors, cifar_runs):
        monkeypatch.setattr(module, "train", begin)
    monkeypatch.setattr(classifiers, "unpack_cifar", lambda *_: "npz:data/cifar10_jpeg")
    monkeypatch.setattr(Record, "once", lambda self, part, function: function())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet_weights").mkdir()
    (tmp_path / "imagenet_weights/resnet50_any.pth.xz").touch()
    place = Place("cuda", tmp_path, tmp_path)
    with pytest.raises(Begun):
        item.measure(place, Record(item, replace(place, device="cpu")))


# Items that measure nothing -------------------------------------------------------------------------------------------


def note(place: Place, name: str) -> int:
    """Count an item's runs in a file, so that other processes see it."""
    path = place.output / f"{name}.runs"
    path.write_text(path.read_text() + "x" if path.exists() else "x")
    return len(path.read_text())


def measured(place: Place, record: Record) -> Finding:
    note(place, record.item.name)
    record.once("number", lambda: 7)
    return Finding("seven", True)


def crashed(place: Place, record: Record) -> Finding:
    note(place, record.item.name)
    record.once("first", lambda: 1)
    os.kill(os.getpid(), signal.SIGKILL)
    return Finding("never")


def raised(place: Place, record: Record) -> Finding:
    note(place, record.item.name)
    raise ValueError("no such kernel")


def hung(place: Place, record: Record) -> Finding:
    child = subprocess.Popen(["sleep", "600"])
    (place.output / "child").write_text(str(child.pid))
    print("waiting for a kernel", flush=True)
    time.sleep(600)
    return Finding("never")


def trained(place: Place, record: Record) -> Finding:
    """Stops when asked, the first time; is done the second time."""
    if note(place, record.item.name) == 2:
        return Finding("trained", None)
    with noticing_interrupts() as interrupted:
        while not interrupted():
            time.sleep(0.01)
    raise Interrupted("go on with: train.py --resume")


def an_item(name: str, measure: Measure, limit: float = 60.0, **more: object) -> Item:
    return replace(Item(name, f"what {name} is", "", limit, 0.1, measure), **more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "out").mkdir()
    return Place("cpu", tmp_path / "data", tmp_path / "out", commit="abc")


def tour(items: list[Item], place: Place, seconds: float = 300.0) -> dict[str, tuple[str, str]]:
    rows = gpu_tour.tour(items, place, time.monotonic() + seconds + gpu_tour.RESERVE, place.output.parent / "parts")
    return {row.item: (row.status, row.message) for row in rows}


def runs(place: Place, name: str) -> int:
    path = place.output / f"{name}.runs"
    return len(path.read_text()) if path.exists() else 0


def is_running(place: Place) -> bool:
    """Whether what the hanging item started is still there."""
    state = Path(f"/proc/{(place.output / 'child').read_text()}/stat")
    return state.exists() and state.read_text().split()[2] != "Z"


def test_a_hang_and_a_crash_cost_only_their_own_limits(place: Place) -> None:
    found = tour([
        an_item("good", measured), an_item("hanging", hung, limit=4.0), an_item("crashing", crashed),
        an_item("raising", raised), an_item("last", measured),
    ], place)  # fmt: skip
    assert found["good"] == found["last"] == ("done", "seven")
    assert found["hanging"] == ("timeout", "waiting for a kernel")
    assert found["crashing"][0] == "failed"
    assert "ended by signal 9" in found["crashing"][1]
    assert found["raising"] == ("failed", "ValueError: no such kernel")
    assert not is_running(place)
    part = json.loads((place.output / "results/crashing.json").read_text())
    assert part["results"] == {"first": 1}
    assert not part["complete"]
    good = json.loads((place.output / "results/good.json").read_text())
    assert (good["results"], good["complete"], good["summary"], good["reached"]) == ({"number": 7}, True, "seven", True)


def test_a_second_tour_runs_only_what_is_open_and_failures_last(place: Place) -> None:
    items = [
        an_item("training", trained, limit=5.0, goes_on=True), an_item("raising", raised), an_item("good", measured),
    ]  # fmt: skip
    first = tour(items, place)
    assert first["training"][0] == "timeout"
    assert "goes on another time" in first["training"][1]
    fresh = replace(place, output=place.output.parent / "elsewhere")
    fresh.output.mkdir()
    travel.unpack(place.output.parent / "parts", fresh.output)
    for name in ("training", "raising", "good"):  # what these items count lies beside what travels
        (fresh.output / f"{name}.runs").write_text((place.output / f"{name}.runs").read_text())
    patient = [replace(item, limit=120.0) for item in items]  # on a busy machine, too, it ends this time
    second = tour([*patient, an_item("new", measured)], fresh)
    assert second["good"] == ("done before", "seven")
    assert second["training"][0] == "done"
    assert second["raising"][0] == "failed"
    assert (runs(fresh, "good"), runs(fresh, "training"), runs(fresh, "new")) == (1, 2, 1)
    order = sorted(("new", "raising"), key=lambda name: (fresh.output / f"{name}.runs").stat().st_mtime_ns)
    assert order == ["new", "raising"]


def test_a_tour_that_is_stopped_takes_its_item_with_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 4.0)
        with pytest.raises(KeyboardInterrupt):
            tour([an_item("hanging", hung)], place)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert not is_running(place)


def test_items_without_data_or_time_are_left_out_and_say_so(place: Place) -> None:
    items = [
        an_item("photographs", measured, needs=("coco100",)), an_item("long", measured, least=260.0),
        an_item("library", measured, obstacle=lambda place: "no such library"), an_item("short", measured),
    ]  # fmt: skip
    found = tour(items, place, seconds=250.0)
    assert found == {
        "photographs": ("skipped", "no data: coco100"), "long": ("skipped", "no time left"),
        "library": ("skipped", "no such library"), "short": ("done", "seven"),
    }  # fmt: skip
    assert runs(place, "photographs") == runs(place, "long") == 0


def test_where_forked_processes_fail_fresh_ones_are_tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = []

    def run_apart(_: object, arguments: tuple[Item, Place], *__: object, method: str, **___: object) -> Outcome:
        methods.append(method)
        if method == "fork":
            return Outcome("failed", 1.0, "")
        about = {"item": arguments[0].name, "complete": True, "summary": "seven"}
        write_json(arguments[0].file(place.output), about)
        return Outcome("done", 1.0, "")

    monkeypatch.setattr(processes, "run_apart", run_apart)
    found = tour([an_item("a", measured), an_item("b", measured)], place)
    assert methods == ["fork", "spawn", "spawn"]
    assert {status for status, _ in found.values()} == {"done"}


def silent(place: Place, record: Record) -> Finding:
    os._exit(0)


def test_an_item_that_leaves_no_result_has_failed(place: Place) -> None:
    found = tour([an_item("silent", silent)], place)
    assert found["silent"] == ("failed", "ended without a result: ")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"complete": true}'])
def test_damaged_or_foreign_files_are_not_collected(tmp_path: Path, text: str) -> None:
    (tmp_path / "out/results").mkdir(parents=True)
    (tmp_path / "out/results/smoke.json").write_text(text)
    (tmp_path / "kept").mkdir()
    write_json(tmp_path / "kept/not_run.json", {"command": "", "items": []})
    with pytest.raises(InputError, match=r"smoke\.json|no measurements"):
        collect_gpu.collect(tmp_path / "out", tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["not_run.json"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--minutes", "nan"], "--minutes nan: must be above zero"),
        (["--minutes", "-1"], "--minutes -1.0: must be above zero"),
        (["--wheels", "nowhere"], "--wheels nowhere: no such folder"),
        (["--data", "file"], "--data file: no such folder"),
        (["--parts", "file"], "--parts file: no such folder"),
    ],
)
def test_a_tour_refuses_what_it_cannot_use_before_it_begins(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    fault: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert gpu_tour.main(["--rehearse", "--output", "out", *arguments]) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert fault in capsys.readouterr().err
    assert not Path("out").exists()


def test_parts_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    content = b"no archive at all"
    (tmp_path / f"tour-{hashlib.sha256(content).hexdigest()[:12]}-1-of-1").write_bytes(content)
    with pytest.raises(InputError, match="no archive of a tour"):
        travel.unpack(tmp_path, tmp_path / "out")


def test_parts_with_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/results").write_text("a file, where a tour has a folder")
    content = travel._archive(tmp_path / "other", [tmp_path / "other/results"])
    (tmp_path / f"tour-{hashlib.sha256(content).hexdigest()[:12]}-1-of-1").write_bytes(content)
    with pytest.raises(InputError, match="no archive of a tour \\(it has 'results'\\)"):
        travel.unpack(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_an_older_tour_left_does_not_replace_what_is_newer(tmp_path: Path) -> None:
    older, output = tmp_path / "older", tmp_path / "out"
    for folder, said in ((older, "old"), (output, "new")):
        write_json(folder / "results/smoke.json", {"said": said})
    write_json(older / "results/plain20.json", {"said": "old"})
    os.utime(older / "results/smoke.json", (1, 1))
    travel.take_over(older, output)
    assert [json.loads((output / f"results/{name}.json").read_text()) for name in ("smoke", "plain20")] == [
        {"said": "new"}, {"said": "old"},
    ]  # fmt: skip
    os.utime(output / "results/smoke.json", (0, 0))
    travel.take_over(older, output)
    assert json.loads((output / "results/smoke.json").read_text()) == {"said": "old"}


def test_a_rehearsals_parts_are_refused_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "rehearsed/results/smoke.json", {"complete": True, "rehearsal": True})
    write_json(tmp_path / "out/results/smoke.json", {"complete": True})
    (tmp_path / "parts").mkdir()
    travel.pack(tmp_path / "rehearsed", tmp_path / "parts")
    monkeypatch.setattr(gpu_tour, "_require_gpu", lambda: None)
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert gpu_tour.main(["--output", str(tmp_path / "out"), "--go-on", str(tmp_path / "parts")]) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert "parts: holds results of a rehearsal (smoke.json); leave out --go-on" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/results/smoke.json").read_text()) == {"complete": True}


@pytest.mark.parametrize(
    "row",
    [
        "x", {"item": "smoke"}, {"item": "smoke", "status": "done", "seconds": "x", "message": ""},
        {"item": "smoke", "status": "done", "seconds": 1.0, "message": None},
    ],
)  # fmt: skip
def test_a_damaged_status_is_named(place: Place, row: object) -> None:
    write_json(place.output / travel.STATUS, {"smoke": row})
    with pytest.raises(InputError, match=r"status\.json: damaged"):
        tour([an_item("smoke", measured)], place)


def test_what_travels_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, folder = tmp_path / "out", tmp_path / "parts"
    write_json(output / "results/a.json", {"complete": True})
    for arch, size in (("resnet20", 30_000), ("resnet110", 90_000)):
        (output / f"runs/{arch}").mkdir(parents=True)
        (output / f"runs/{arch}/last.pt").write_bytes(os.urandom(size))
        (output / f"runs/{arch}/config.yaml").write_text("arch: x")
        (output / f"runs/{arch}/model.safetensors").write_bytes(b"weights stay")
    monkeypatch.setattr(travel, "PART_SIZE", 50_000)
    folder.mkdir()
    (folder / "tour-0123456789ab-1-of-1").write_bytes(b"of an earlier packing")
    parts = travel.pack(output, folder)
    assert sorted(folder.iterdir()) == sorted(parts)
    assert len(parts) > 2
    assert all(part.stat().st_size <= 50_000 for part in parts)
    (folder / "tour-ba9876543210-1-of-2").write_bytes(b"of a packing that was killed")
    travel.unpack(folder, tmp_path / "new")
    kept = {str(p.relative_to(output)): p.read_bytes() for p in output.rglob("*") if p.is_file()}
    back = {str(p.relative_to(tmp_path / "new")): p.read_bytes() for p in (tmp_path / "new").rglob("*") if p.is_file()}
    assert back == {name: content for name, content in kept.items() if not name.endswith("safetensors")}
    parts[1].unlink()
    with pytest.raises(InputError, match="no complete set of parts"):
        travel.unpack(folder, tmp_path / "newer")
    monkeypatch.setattr(travel, "MOST_PARTS", 2)
    assert len(travel.pack(output, folder)) <= 2
    travel.unpack(folder, tmp_path / "newest")
    assert [p.parent.name for p in (tmp_path / "newest").rglob("last.pt")] == ["resnet20"], "the largest stays behind"


def test_what_was_measured_is_collected(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    items = [
        an_item("good", measured), an_item("crashing", crashed), an_item("named", measured, kept_as="folder/n.json"),
        an_item("absent", measured),
    ]  # fmt: skip
    tour(items[:3], place)
    results = tmp_path / "results"
    write_json(results / "not_run.json", {"what": "open", "items": [], "others": ["stays"]})
    collect_gpu.collect(place.output, results, items)
    assert sorted(str(p.relative_to(results)) for p in results.rglob("*.json")) == [
        "folder/n.json", "gpu_crashing.json", "gpu_good.json", "not_run.json",
    ]  # fmt: skip
    left = json.loads((results / "not_run.json").read_text())
    assert [item["name"] for item in left["items"]] == ["crashing", "absent"]
    assert left["others"] == ["stays"]
    with pytest.raises(InputError, match="no measurements"):
        collect_gpu.collect(tmp_path / "data", results, items)


def test_a_whole_measurement_is_not_replaced_by_one_in_part(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items, results = [an_item("good", measured)], tmp_path / "results"
    tour(items, place)
    write_json(results / "not_run.json", {"items": []})
    collect_gpu.collect(place.output, results, items)
    whole = json.loads((results / "gpu_good.json").read_text())
    about = json.loads(items[0].file(place.output).read_text())
    write_json(items[0].file(place.output), {**about, "complete": False, "results": {}})
    assert collect_gpu.collect(place.output, results, items) == {}
    assert "measured in part; what is kept of it is whole, and stays" in capsys.readouterr().out
    assert json.loads((results / "gpu_good.json").read_text()) == whole
    assert json.loads((results / "not_run.json").read_text())["items"] == []
    write_json(items[0].file(place.output), about)
    (results / "not_run.json").write_text("{")
    (results / "gpu_good.json").unlink()
    with pytest.raises(InputError, match=r"not_run\.json: damaged"):
        collect_gpu.collect(place.output, results, items)
    assert not (results / "gpu_good.json").exists()


def test_the_list_of_what_was_not_run_is_that_of_the_tour() -> None:
    listed = [item["name"] for item in json.loads((ROOT / "results/not_run.json").read_text())["items"]]
    done = [item.name for item in ITEMS if (ROOT / "results" / collect_gpu.kept_as(item)).is_file()]
    assert [item.name for item in ITEMS if item.name not in done] == [name for name in listed if name not in done]


def test_wheels_are_unpacked_and_what_is_installed_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels/travelled-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("travelled/__init__.py", "answer = 7")
        wheel.writestr("yaml/__init__.py", "raise ValueError")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for _ in range(2):
        packages.use_wheels(tmp_path / "wheels", tmp_path / "site")
    assert importlib.import_module("travelled").answer == 7
    assert importlib.util.find_spec("yaml").origin == yaml.__file__


def test_a_rehearsal_finds_no_packages_that_the_machine_lacks() -> None:
    finder = packages._Hiding(importlib.machinery.PathFinder)
    assert finder.find_spec("json") is not None
    assert finder.find_spec("onnx") is None
    assert finder.find_spec("onnxruntime") is not None
    with pytest.raises(RuntimeError, match=r"imported before it could be hidden: .*pytest"):
        packages.hide_absent_packages()


def test_the_scans_of_cifar_become_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    for split in ("train", "test"):
        file = tmp_path / f"sets/cifar10_jpeg/cifar10_q75_{split}.npz"
        data.write_scans(file, images, np.arange(12, dtype=np.uint8) % 10)
    monkeypatch.chdir(tmp_path)
    assert data.unpack_cifar(tmp_path / "sets", workers=2) == "npz:data/cifar10_jpeg"
    with np.load("data/cifar10_jpeg/test.npz") as file:
        unpacked, labels = file["images"], file["labels"]
    assert labels.tolist() == [*range(10), 0, 1]
    for image, original in zip(unpacked, images, strict=True):
        Image.fromarray(original).save(tmp_path / "one.jpg", quality=data.QUALITY)
        assert np.array_equal(image, np.asarray(Image.open(tmp_path / "one.jpg").convert("RGB")))
