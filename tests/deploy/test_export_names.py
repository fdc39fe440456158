"""``deploy/export.py --output``: nothing that trained is lost, and nothing that another wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbones.errors import InputError
from deploy import export
from deploy.engines.onnx_metadata import is_exported
from deploy.export_names import decide_names, onnx_target
from deploy.export_options import ExportOptions
from tests.deploy.small_graphs import write_classifier_like

SIDECAR = json.dumps({"format": 2, "task": "detection", "sha256": "0", "bytes": 1})
PLAN_SIDECAR = json.dumps({"format": 2, "task": "detection", "sha256": "0", "engine": {}})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with weights, whatever they are, and a file of ours and one of another beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.safetensors").write_bytes(b"trained")
    write_classifier_like(tmp_path / "ours.onnx")
    for name in ("theirs.onnx", "notes.json", "theirs.plan", "fresh.unverified.onnx"):
        (tmp_path / name).write_text("mine")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("output", "format", "suffix"),
    [
        ("x.json", "onnx", ".onnx"), ("run/model.safetensors", "onnx", ".onnx"), ("noend", "onnx", ".onnx"),
        ("model.plan", "onnx", ".onnx"), ("model.onnx", "tensorrt", ".plan"),
    ],
)  # fmt: skip
def test_the_suffix_is_checked_before_the_model_is_opened(
    run: Path, capsys: pytest.CaptureFixture[str], output: str, format: str, suffix: str
) -> None:
    assert export.main(["--model", str(run), "--format", format, "--output", output]) == 1
    assert capsys.readouterr().err == f"error: --output {output}: give a name that ends in {suffix}\n"
    assert (run / "model.safetensors").read_bytes() == b"trained"
    assert len(list(run.iterdir())) == 1


def decided(**options: object) -> Path:
    asked = ExportOptions(**{"model": "run", **options})  # type: ignore[arg-type]
    return decide_names(asked, onnx_target(asked, "portable" if asked.format == "tensorrt" else "ops"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "theirs.onnx"}, r"theirs.onnx: exists, and this command did not write it"),
        ({"output": "notes.onnx"}, r"notes.json: exists, and this command did not write it"),
        ({"output": "theirs.plan", "format": "tensorrt"}, r"theirs.plan: exists, and this command did not"),
        ({"output": "ours.onnx", "model": "ours.onnx", "overwrite": True}, r"ours.onnx: is read by this command"),
        ({"output": "a.plan", "format": "tensorrt", "timing_cache": "a.plan"}, r"--output writes there too"),
        (
            {"output": "a.plan", "format": "tensorrt", "timing_cache": "run/model.safetensors"},
            r"is read by this command",
        ),
        ({"output": "fresh.onnx"}, r"fresh.unverified.onnx: exists, and this command did not write it"),
        ({"model": "theirs.pth", "output": "theirs.onnx/x.onnx"}, r"theirs.onnx is a file"),
    ],
)
def test_what_would_be_lost_is_named(run: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decided(**options)


def test_what_was_exported_is_exported_again(run: Path) -> None:
    assert is_exported(Path("ours.onnx"))
    assert not is_exported(Path("theirs.onnx"))
    Path("ours.json").write_text(SIDECAR)
    Path("ours-portable.onnx").write_bytes(Path("ours.onnx").read_bytes())
    Path("ours-portable.json").write_text(SIDECAR)
    Path("ours.plan").write_bytes(b"engine")
    Path("ours.plan.json").write_text(PLAN_SIDECAR)
    decided(output="ours.onnx")
    decided(output="ours.plan", format="tensorrt")
    decided(output="theirs.onnx", overwrite=True)
    assert decided(output="run", format="tensorrt") == Path("run/model.plan")
    assert decided(output="run", format="tensorrt", precision="fp16") == Path("run/model-fp16.plan")
    folder = ExportOptions(model="run", output="new.1/", precision="fp16")
    assert onnx_target(folder, "ops") == Path("new.1/model-fp16.onnx")
