"""Each extra by itself: what is missing gets one line that names its extra, and commands need no more than they say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from backbones.errors import InputError
from backbones.extras import MODULES, explained, install, missing, require
from backbones.running.command_line import CommandOptions, run_command
from tests.conftest import ROOT
from tests.test_structure import SOURCES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    extra: {Requirement(line).name for line in lines} for extra, lines in PROJECT["optional-dependencies"].items()
}
DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "google": "protobuf", "pyarrow": "ray", "cuda": "cuda-bindings", "PIL": "pillow",
    "yaml": "pyyaml", "tensorrt_rtx": "tensorrt-rtx",
}  # fmt: skip
"""By the name that is imported, where it has another; pyarrow comes with ray[data]."""


def alone(extras: str, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command where nothing is installed but some extras."""
    command = [sys.executable, str(ROOT / "tests/only_extras.py"), extras, script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_table_is_that_of_pyproject() -> None:
    for module, (extra, _) in MODULES.items():
        held = EXTRAS[extra] if extra else {Requirement(line).name for line in PROJECT["dependencies"]}
        assert DISTRIBUTIONS.get(module, module) in held, module
    named = {DISTRIBUTIONS.get(module, module) for module in MODULES}
    assert set().union(*(held for extra, held in EXTRAS.items() if extra != "dev")) - {"cuda-bindings"} <= named


def test_no_text_names_a_package_of_the_index() -> None:
    """The name there belongs to nobody: whoever took it could run code on the machines of those who believed us."""
    told = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert not [path for path in told if re.search(r"install\s+(-e )?['\"]?shortcut", path.read_text())]


def test_a_missing_module_names_its_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "defusedxml", None)

    def body(options: CommandOptions) -> None:
        import defusedxml  # noqa: F401

    assert run_command(CommandOptions, body, description="", argv=[]) == 1
    line = "error: reading VOC's annotations needs defusedxml, which is not installed: pip install -e '.[train]'\n"
    assert capsys.readouterr().err == line
    with pytest.raises(InputError, match=r"my plot needs av, which .*'.\[video\]'"):
        raise missing("av", "my plot")
    with pytest.raises(InputError, match="needs defusedxml"):
        require("json", "defusedxml")
    assert explained(ModuleNotFoundError(name="numpy")) is None  # it is there: something in it is not
    assert explained(ModuleNotFoundError(name="unheard_of")) is None
    assert install("") == "pip install -e ."


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from detection.data.digit_files import write_coco, write_voc

    folder = tmp_path_factory.mktemp("data")
    write_coco(folder / "coco", 2)
    write_voc(folder / "voc", 2)
    return folder


def test_data_are_checked_with_the_core_and_their_own_reader(coco: Path) -> None:
    run = alone("", "detection/check.py", "--dataset", f"coco:{coco / 'coco'}", "--quiet")
    assert (run.returncode, run.stderr) == (0, "")
    run = alone("", "detection/check.py", "--dataset", f"voc:{coco / 'voc'}", "--quiet")
    assert run.returncode == 1
    assert run.stderr.endswith("needs defusedxml, which is not installed: pip install -e '.[train]'\n")
    assert run.stderr.count("\n") == 1
    run = alone("+defusedxml", "detection/check.py", "--dataset", f"voc:{coco / 'voc'}", "--quiet")
    assert run.stdout.startswith("left out: 0 objects") or "box  " in run.stdout


def test_an_exported_detector_is_scored_and_predicts_without_torch(coco: Path, tmp_path: Path) -> None:
    """Of what serves, and of what scores; what is missing beside them is named."""
    pytest.importorskip("openvino", reason="needs the extra serve")
    pytest.importorskip("tritonclient", reason="needs the extra serve")
    from deploy.export_options import ExportOptions
    from deploy.exporting import export
    from detection.building import save_detector
    from detection.data.digits import CLASSES
    from tests.detection.builders import small_detector

    save_detector(small_detector(classes=CLASSES), tmp_path / "model.safetensors")
    file = export(ExportOptions(model=str(tmp_path), images=str(coco / "coco/val"), quiet=True))
    on = ("--model", file, "--dataset", f"coco:{coco / 'coco'}", "--quiet", "--output", tmp_path / "m.json")
    run = alone("serve+pycocotools", "detection/evaluate.py", *on)
    assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "m.json").is_file()
    pictures = (coco / "coco/val", "--quiet", "--output", tmp_path / "found")
    run = alone("serve", "detection/predict.py", "--model", file, *pictures)
    assert (run.returncode, run.stderr) == (0, "")
    run = alone("serve", "detection/evaluate.py", *on)
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "needs pycocotools, which is not installed: pip install -e '.[train]'" in run.stderr
    run = alone("", "detection/predict.py", "--model", file, *pictures, "--overwrite")
    assert (
        run.stderr == f"error: {file}: running it needs openvino, which is not installed: pip install -e '.[serve]'\n"
    )


@pytest.mark.parametrize(
    ("extras", "script", "arguments", "needed", "extra"),
    [
        (
            "export",
            "deploy/export.py",
            ("--model", "runs/a"),
            "torch",
            "train",
        ),
        (
            "train",
            "deploy/export.py",
            ("--model", "runs/a"),
            "onnx",
            "export",
        ),
        (
            "train",
            "deploy/serve.py",
            ("--model", "a.onnx"),
            "aiohttp",
            "serve",
        ),
        ("serve", "deploy/batch.py", ("--model", "a.onnx"), "ray", "bulk"),
    ],
)
def test_commands_name_the_extra_that_they_lack(
    extras: str, script: str, arguments: tuple[str, ...], needed: str, extra: str
) -> None:
    run = alone(extras, script, *arguments)
    assert run.returncode == 1
    assert run.stderr.endswith(f"needs {needed}, which is not installed: pip install -e '.[{extra}]'\n")
    assert run.stderr.count("\n") == 1


def test_only_extras_hides_the_others() -> None:
    from tests.only_extras import closure

    kept = closure(["tritonclient[http]"])
    assert "tritonclient" in kept
    assert "torch" not in kept
