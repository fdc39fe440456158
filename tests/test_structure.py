"""Promises about the code as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import house_rows
from tests.conftest import ROOT

PACKAGES = ("backbones", "detection", "deploy", "demo")
DEPENDENCIES = {
    "torch", "torchvision", "numpy", "PIL", "yaml", "safetensors", "onnx", "onnxruntime", "onnxscript", "openvino",
    "tensorrt", "triton", "tritonclient", "gradio", "pycocotools", "sklearn", "matplotlib", "rich", "fvcore", "hotcoco",
    "timm", "segmentation_models_pytorch", "mmengine", "mmdet", "detectron2",
}  # fmt: skip
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for package in PACKAGES
    for path in (ROOT / package).glob("*.py")
    if path.read_text().startswith("#!")
)
SOURCES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_there_are_scripts() -> None:
    assert {"detection/train.py", "backbones/train.py", "deploy/export.py", "detection/predict.py"} <= set(SCRIPTS)


def test_no_module_shadows_another_library() -> None:
    taken = {name.lower() for name in DEPENDENCIES} | set(sys.stdlib_module_names)
    # A plug-in bears its host's name. Only the folder of a script ever stands on sys.path, and that folder holds none.
    plugins = ROOT / "backbones" / "plugins"
    assert not [script for script in SCRIPTS if (ROOT / script).is_relative_to(plugins)]
    paths = [path.relative_to(ROOT) for path in SOURCES if path.parent != plugins]
    assert not {part.removesuffix(".py") for path in paths for part in path.parts} & taken


def test_library_arrows_run_one_way() -> None:
    order = {name: rank for rank, name in enumerate(PACKAGES)}
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        if str(path.relative_to(ROOT)) in SCRIPTS:
            continue  # scripts stand above all packages
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                other = name.split(".")[0]
                assert order.get(other, -1) <= order[package], f"{path} imports {name}"


@pytest.mark.parametrize(
    "pattern", [r"weights_only\s*=\s*False", r"pickle\.load", r"allow_pickle\s*=\s*True", r"yaml\.load\("]
)
def test_nothing_unpickles(pattern: str) -> None:
    assert not [path for path in SOURCES if re.search(pattern, path.read_text())]


def test_nothing_names_a_machine_or_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    suspicious = re.compile("|".join(["/ro" + "ot/", "/ho" + "me/[a-z]", "pypi" + r"\.org", "python" + "hosted"]))
    for name in filter(None, tracked):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".txt", ".json", ".yaml", "") and path.is_file():
            found = suspicious.search(path.read_text(errors="ignore"))
            assert found is None, f"{name}: {found.group(0)}"


def test_only_the_table_of_heads_tells_them_apart_by_name() -> None:
    named = re.compile(r'head"?\]? (==|!=|in) [("\']|[("\'](fpn|c4|vgg|fcn)["\'] (==|!=|in) ')
    compared = {path.name for path in SOURCES if "detection" in path.parts and named.search(path.read_text())}
    assert not compared - {"head_table.py"}


def test_the_lowest_versions_are_those_that_make_minimum_installs() -> None:
    """``make minimum`` then tests what pyproject.toml promises, and every bound of what it tests is a number."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = [bound for bound in extras["dev"] if bound.startswith(("pytest>", "pytest-xdist>", "hypothesis>"))]
    promised = [*project["dependencies"], *extras["train"], *extras["export"], *tools]
    lines = (ROOT / "constraints-minimum.txt").read_text().splitlines()
    assert [bound.replace(">=", "==") for bound in promised] == [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+>=[\w.]+", bound) for bound in promised)


def imported_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after running ``code`` in the project's root."""
    listing = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{listing}"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "module",
    [
        "backbones", "backbones.images", "backbones.framing", "backbones.convention", "backbones.variants",
        "detection", "detection.framing", "detection.settings", "detection.detections", "detection.drawing",
        "detection.training.options", "detection.segmentation.maps", "detection.head_table",
        "deploy", "deploy.runtimes", "deploy.models", "deploy.runtimes.exported_models",
        "demo", "demo.launching", "demo.parts.building",
    ],
)  # fmt: skip
def test_light_modules_import_no_torch(module: str) -> None:
    if module.startswith("demo.parts") and find_spec("gradio") is None:
        pytest.skip("needs the extra demo")
    assert not imported_by(f"import {module}") & {"torch", "torchvision", "matplotlib", "sklearn"}


def test_lazy_packages_offer_their_public_names() -> None:
    import backbones
    import deploy
    import detection

    for package in (backbones, detection, deploy):
        for name in package.__all__:
            assert getattr(package, name)
        with pytest.raises(AttributeError, match="no attribute 'absent'"):
            _ = package.absent


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_heavy_import(script: str) -> None:
    module = script.removesuffix(".py").replace("/", ".")
    code = (
        f"from {module} import main\ntry:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert not imported_by(code) & {"torch", "torchvision", "numpy", "PIL", "yaml", "onnxruntime"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run_as_typed_from_any_folder_without_an_install(script: str, tmp_path: Path) -> None:
    # -I hides the environment, -S the site-packages with the editable install; the script finds the project alone.
    for flags in ([], ["-S"], ["-I", "-S"]):
        run = subprocess.run(
            [sys.executable, *flags, str(ROOT / script), "--help"], cwd=tmp_path, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert "examples:" in run.stdout


@pytest.mark.parametrize("question", house_rows.ROWS)
def test_a_question_is_answered_in_one_place(question: str) -> None:
    count, most = house_rows.ROWS[question]
    places = count()
    assert len(places) <= most, places


def test_a_file_of_weights_is_read_once(tmp_path: Path) -> None:
    opened = house_rows.reads_of_weights(tmp_path)
    assert sorted(opened) == ["c.safetensors", "d.safetensors", "theirs.pth"]
