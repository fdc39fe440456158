"""What holds for the plug-ins of all hosts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from backbones import build_backbone
from backbones.convention import IMAGENET
from backbones.errors import InputError
from backbones.plugins import deepest_at_each_stride, import_host, unit_statistics
from tests.backbones.plugins.conftest import BGR
from tests.conftest import ROOT

HOSTS = {
    "torchvision": ("torchvision", "pip install torchvision"),
    "detectron2": ("detectron2", "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2"),
    "mmdet": ("mmengine", "pip install mmengine"),
    "smp": ("segmentation_models_pytorch", "pip install segmentation-models-pytorch"),
    "timm": ("timm", "pip install timm"),
}


def run(code: str) -> list[str]:
    """The lines that ``code`` prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_the_plugins_imports_no_host_and_no_torch() -> None:
    code = "import sys, backbones.plugins; print(*{name.split('.')[0] for name in sys.modules}, sep='\\n')"
    assert not set(run(code)) & {"torch", *(package for package, _ in HOSTS.values())}


def test_a_missing_host_is_one_line_with_the_command_that_installs_it() -> None:
    lines = run(
        "import sys\n"
        "from backbones.errors import InputError\n"
        f"for plugin, (host, _) in {HOSTS!r}.items():\n"
        "    sys.modules[host] = None\n"  # as if it were not installed
        "    try:\n"
        "        __import__(f'backbones.plugins.{plugin}')\n"
        "    except InputError as error:\n"
        "        print(plugin, error, error.__suppress_context__)\n"
    )
    assert len(lines) == len(HOSTS)
    for line, (plugin, (host, command)) in zip(lines, HOSTS.items(), strict=True):
        assert line.startswith(f"{plugin} {host} cannot be imported (")
        assert line.endswith(f"); install it with: {command} True")


def test_a_host_that_lacks_a_part_is_named_with_that_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xml.absent", None)
    with pytest.raises(InputError, match=r"xml cannot be imported \(.*xml.absent.*\); install it with: pip install it"):
        import_host("xml.absent", "pip install it")


def test_the_documented_snippets_compile_and_name_what_exists() -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    assert len(snippets) >= len(HOSTS)
    for snippet in snippets:
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("backbones.plugins."):
                source = (ROOT / f"{node.module.replace('.', '/')}.py").read_text()
                for alias in node.names:
                    assert f"def {alias.name}(" in source, f"{node.module} has no {alias.name}"


def test_statistics_are_for_rgb_in_unit_range() -> None:
    assert unit_statistics(IMAGENET)[0] == pytest.approx([0.485, 0.456, 0.406])
    assert unit_statistics(BGR)[1] == pytest.approx([0.8, 0.4, 0.2])


def test_the_deepest_map_stands_for_its_stride() -> None:
    assert deepest_at_each_stride(build_backbone("resnet20", 0)) == {1: "c2", 2: "c3", 4: "c4"}
