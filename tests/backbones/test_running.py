"""What runs share: atomic files, run folders, keyed randomness, learning rates, meters, interrupts, reports."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.atomic_write import atomic_path, write_json
from backbones.running.command_line import CommandOptions, option
from backbones.running.distributed import choose_workers
from backbones.running.environment import describe_card, describe_environment, processor_instructions, processor_name
from backbones.running.interrupts import noticing_interrupts
from backbones.running.keyed_random import fold, generator, uniform
from backbones.running.learning_rate import Schedule
from backbones.running.outputs import Outputs
from backbones.running.precision import autocast, choose_device, cpu_has_instructions, gradient_scaler
from backbones.running.progress import Progress, logger, progress, start_logging
from backbones.running.report import Report, new_figure, plot_records
from backbones.running.resuming import options_of_run
from backbones.running.run_folder import RunFolder
from backbones.running.training_loop import ScalarWriter
from backbones.running.training_state import Meter


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert [item.name for item in path.parent.iterdir()] == ["a.json"]


def test_run_folders_are_never_overwritten(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"a": 1, "b": [1, 2]})
    assert run.read_config() == {"a": 1, "b": [1, 2]}
    assert "versions" in json.loads((run.path / "env.json").read_text())
    with pytest.raises(InputError, match="holds a run"):
        RunFolder.create(tmp_path / "run", {})
    with pytest.raises(InputError, match="holds a run"):
        RunFolder.create(tmp_path / "run", {}, Outputs(overwrite=True))
    with pytest.raises(InputError, match="no run to resume"):
        RunFolder.reopen(tmp_path)


def test_a_run_starts_in_a_new_or_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    RunFolder.create(tmp_path, {}).path.joinpath("config.yaml").unlink()
    with pytest.raises(InputError, match=r"--output .*: holds env.json, and is no run; choose a new"):
        RunFolder.create(tmp_path, {})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"trained")
    with pytest.raises(InputError, match=r"model.safetensors: is read by this command"):
        RunFolder.create(tmp_path, {}, Outputs([weights], overwrite=True))
    assert RunFolder.create(tmp_path, {"a": 1}, Outputs(overwrite=True)).read_config() == {"a": 1}
    with pytest.raises(InputError, match="is a file; name a folder"):
        RunFolder.create(weights, {})
    assert weights.read_bytes() == b"trained"


def test_a_run_of_another_command_is_not_resumed(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {"quiet": True, "backbone": "resnet18"})
    with pytest.raises(InputError, match=r"no option 'backbone' here.; resume it with the train.py that started it"):
        options_of_run(CommandOptions(), tmp_path / "run")


def test_a_resumed_run_goes_on_with_its_own_options(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Options(CommandOptions):
        workers: int = option(-1, "processes", group="data")
        rate: float | None = option(None, "how fast", group="recipe")
        sizes: tuple[int, ...] = option((1, 2), "how large", group="recipe")
        resume: str | None = option(None, "the folder", group="output")

    folder = tmp_path / "run"
    RunFolder.create(folder, {"quiet": False, "debug": False, "workers": 4, "rate": 0.5, "sizes": [3, 4]})
    given = Options(resume=str(folder), workers=2, quiet=True)
    assert options_of_run(given, folder) == Options(resume=str(folder), workers=2, quiet=True, rate=0.5, sizes=(3, 4))
    with pytest.raises(InputError, match=r"--rate 0.1: the run in .*run goes on as it was started, with 0.5; leave"):
        options_of_run(Options(resume=str(folder), rate=0.1), folder)
    options_of_run(Options(resume=str(folder), rate=0.5), folder)


def test_readers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(48)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (choose_workers(3, gpu), choose_workers(0, gpu), choose_workers(-1, cpu)) == (3, 0, 0)
    assert (choose_workers(-1, gpu), choose_workers(-1, gpu, most=8)) == (48, 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert choose_workers(-1, gpu) == 6


def test_records_are_rewound_to_the_saved_state(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    assert run.read_records() == []
    for step in (1, 2, 3):
        run.record({"step": step})
    with run.records.open("a") as stream:
        stream.write('{"step": 4, "lo')  # a kill in the middle of a line
    (run.path / "last.pt.partial").write_text("half")
    again = RunFolder.reopen(run.path)
    again.remove_leftovers()
    again.rewind(2)
    assert [entry["step"] for entry in again.read_records()] == [1, 2]
    assert not list(run.path.glob("*.partial"))


def test_draws_depend_on_their_key_alone() -> None:
    assert np.array_equal(generator(1, 2).random(3), generator(1, 2).random(3))
    assert not np.array_equal(generator(1, 2).random(3), generator(2, 1).random(3))
    assert fold(1, 2) != fold(2, 1)
    assert 0 <= fold(5) < 2**62
    keys = torch.tensor([fold(0, 1), fold(0, 2)])
    numbers = uniform(keys, torch.arange(1000))
    assert torch.equal(uniform(keys[1:], torch.arange(500, 1000))[0], numbers[1, 500:])


def test_draws_are_uniform_and_independent() -> None:
    numbers = uniform(torch.tensor([fold(3), fold(4)]), torch.arange(20_000))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.histc(numbers[0], 20, 0, 1)
    assert ((counts - 1000).abs() < 150).all()
    assert abs(torch.corrcoef(numbers)[0, 1]) < 0.03
    assert abs(torch.corrcoef(torch.stack((numbers[0, 1:], numbers[0, :-1])))[0, 1]) < 0.03


def test_step_schedules_warm_up_and_fall() -> None:
    schedule = Schedule(0.02, 16, 1000, milestones=(0.5, 0.9), warmup_images=100, warmup_start=0.1)
    assert schedule.scaled_peak(8) == 0.01
    assert schedule.at(0, 16) == pytest.approx(0.002)
    assert schedule.at(50, 16) == pytest.approx(0.02 * 0.55)
    assert schedule.at(100, 16) == schedule.at(499, 16) == 0.02
    assert schedule.at(500, 16) == pytest.approx(0.002)
    assert schedule.at(900, 16) == pytest.approx(0.0002)


def test_the_papers_cifar_schedule() -> None:
    schedule = Schedule(0.1, 128, 64_000 * 128, milestones=(0.5, 0.75))
    rates = [schedule.at(step * 128, 128) for step in (0, 31_999, 32_000, 47_999, 48_000)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_cosine_schedules_end_at_zero() -> None:
    schedule = Schedule(1.0, 1, 100, shape="cosine")
    assert schedule.at(0, 1) == 1
    assert schedule.at(50, 1) == pytest.approx(0.5)
    assert schedule.at(100, 1) == pytest.approx(0)


def test_a_meter_reads_means_and_resumes() -> None:
    meter = Meter()
    items = list(meter.timed([1, 2, 3]))
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(3.0)}, {"error": torch.tensor(40.0)})
    again = Meter()
    again.restore(meter.state(), torch.device("cpu"))
    for one in (meter, again):
        one.add({"a": torch.tensor(3.0), "b": torch.tensor(1.0)}, {"error": torch.tensor(20.0)})
        losses, clock = one.read(4)
        assert losses == {"loss": 4, "a": 2, "b": 2, "error": 30}, "only losses are summed"
        assert set(clock) == {"images_per_second", "waiting"}
    assert items == [1, 2, 3]


def test_a_meter_counts_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("backbones.running.training_state.time.perf_counter", lambda: clock[0])
    meter = Meter()
    meter.add({"a": torch.tensor(1.0)}, {})
    clock[0] += 2
    with meter.paused():
        clock[0] += 100
    assert meter.read(10)[1]["images_per_second"] == 5


def test_one_process_needs_no_group() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.gather_objects("a") == ["a"]
    assert list(distributed.share_of(5)) == [0, 1, 2, 3, 4]
    value = torch.ones(2)
    assert distributed.mean_over_processes(value) is value
    distributed.barrier()


def test_devices_and_precisions() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="not a device"):
        choose_device("gpu0")
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(InputError, match="torch sees no GPU"):
            choose_device("cuda")
    with autocast(torch.device("cpu"), "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert not gradient_scaler(torch.device("cpu"), "bf16").is_enabled()
    assert gradient_scaler(torch.device("cpu"), "fp16").is_enabled()


def test_signals_are_noticed_and_handlers_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with noticing_interrupts() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted()
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(KeyboardInterrupt), noticing_interrupts() as interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        os.kill(os.getpid(), signal.SIGINT)


def test_progress_writes_lines_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(False, tmp_path / "log.txt")
    with progress("training", 10, 4) as bar:
        bar.advance(3)
        bar.report("loss 1.0")
    assert "training 7/10  loss 1.0" in capsys.readouterr().err
    assert "training 7/10  loss 1.0" in (tmp_path / "log.txt").read_text()
    start_logging(True)
    logger.info("unheard")
    logger.warning("heard")
    assert capsys.readouterr().err.endswith("heard\n")
    assert Progress("a", 10_000_000, 0)._remaining() == "?"


def test_a_terminal_gets_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_logging(False, tmp_path / "log.txt")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress("training", 3) as bar:
        assert all(h.level == logging.WARNING for h in logger.handlers if not isinstance(h, logging.FileHandler))
        bar.advance()
        bar.report("loss 2.0")
    assert "loss 2.0" in (tmp_path / "log.txt").read_text()


def test_the_environment_names_versions_not_people() -> None:
    text = json.dumps(describe_environment())
    assert "torch" in text
    assert str(Path.home()) not in text


XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu sse2 avx2 avx512f avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp i8mm bf16\n"


@pytest.mark.parametrize(
    ("text", "name", "instructions", "multiplies"),
    [
        (XEON, "Intel(R) Xeon(R) Processor", "avx2 avx512f avx_vnni avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16",
         {"fp32": True, "bf16": True, "fp16": False}),
        (ARM, "", "bf16 i8mm asimdhp", {"fp32": True, "bf16": True, "fp16": True}),
        ("flags: sse2 avx2\n", "", "avx2", {"fp32": True, "bf16": False, "fp16": False}),
        ("", "", None, {"fp32": True, "bf16": True, "fp16": True}),
    ],
    ids=["amx", "arm", "old", "silent"],
)  # fmt: skip
def test_the_environment_tells_what_decides_a_processors_speed(
    text: str, name: str, instructions: str | None, multiplies: dict[str, bool],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("backbones.running.environment.CPUINFO", tmp_path / "cpuinfo")
    if text:
        (tmp_path / "cpuinfo").write_text(text)
    assert processor_name().startswith(name) and processor_name().endswith(f", {os.cpu_count()} cores")
    assert processor_instructions() == (None if instructions is None else instructions.split())
    assert {precision: cpu_has_instructions(precision) for precision in multiplies} == multiplies


def test_the_environment_names_the_card_and_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_card() == {"gpu": None} or torch.cuda.is_available()
    card = SimpleNamespace(name="A card", total_memory=80 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {1: card}.__getitem__)
    assert describe_card() == {
        "gpu": "A card", "gpu_memory_gib": 80.0, "gpu_capability": "9.0", "gpus": 2, "cuda": torch.version.cuda,
    }  # fmt: skip


def test_reports_are_one_file_without_addresses(tmp_path: Path) -> None:
    report = Report("A <title>", tmp_path / "plots")
    report.heading("Numbers")
    report.paragraph("1 < 2")
    report.facts({"AP": 0.51234, "images": 3})
    records = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "AP": 0.5}]
    report.plot(plot_records(records, ["loss", "AP", "absent"], "curves"), "Curves", "c.png")
    report.pictures([(np.zeros((4, 4, 3), np.uint8), 'a "picture"')], 100)
    report.write(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "A &lt;title&gt;" in text
    assert "0.5123" in text
    assert text.count("data:image/") == 2
    assert "http" not in text
    assert (tmp_path / "plots" / "c.png").stat().st_size > 1000
    assert len(new_figure(4, 2, columns=2)[1]) == 2


def test_tensorboard_files_are_written_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    ScalarWriter(tmp_path, wanted=False).write(1, {"a": 1.0})
    assert not list(tmp_path.iterdir())
    ScalarWriter(tmp_path, wanted=True).write(1, {"a": 1.0})
    assert list((tmp_path / "tensorboard").iterdir())
