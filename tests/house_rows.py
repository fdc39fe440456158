"""How many places answer one question: counts over the source, as ``tests/test_structure.py`` holds them.

python tests/house_rows.py                            # prints the table
python tests/house_rows.py --against OTHER_CHECKOUT   # and the logical lines of both (results/logical_lines.json)
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbones", "detection", "deploy", "demo")
_FIELDS = {"task", "architecture", "classes", "resize", "flavour"}
_PARTS = {"detector_of", "segmenter_of", "classifier_of", "runtime_of"}
"""What makes a model of a file's content: whoever calls one of them opens a model."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Path and tree of every source file."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def openers() -> list[str]:
    """Public functions that open a model file, by what they call."""
    found = []
    for path, tree in sources():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name not in _PARTS and not node.name.startswith("_"):
                called = {_name(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
                if called & _PARTS and any("source" in arg.arg or "path" in arg.arg for arg in _arguments(node)):
                    found.append(f"{path}:{node.name}")
    return found


def names_of_heads() -> list[str]:
    """Files beside the table and the heads' own that compare a head's name."""
    from detection.head_table import HEADS

    found = []
    for path, tree in sources():
        for node in ast.walk(tree):
            values = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if any(isinstance(value, ast.Constant) and value.value in HEADS for value in values):
                asks = any(isinstance(part, ast.Attribute) and part.attr == "head" for part in ast.walk(node))
                found += [f"{path}:{node.lineno}"] if asks else []
    return found


def readers_of_metadata() -> list[str]:
    """Files that name a field of the metadata as a key."""
    found = []
    for path, tree in sources():
        keys = {key for node in ast.walk(tree) for key in _keys(node)}
        if len(keys & _FIELDS) >= 2 or "architecture" in keys:
            found.append(path)
    return found


def names_of_engines() -> list[str]:
    """Files beside the table that choose by an engine's name."""
    from deploy.engine_names import ENGINES

    found = []
    for path, tree in sources():
        if path == "deploy/engine_names.py":
            continue
        for node in ast.walk(tree):
            values = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            engines = [value for value in values if isinstance(value, ast.Constant) and value.value in ENGINES]
            names = [_name(part) for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)]
            asks = any("engine" in name for name in names)
            found += [f"{path}:{node.lineno}"] if engines and asks else []
    return found


def _arguments(node: ast.FunctionDef) -> list[ast.arg]:
    return [*node.args.args, *node.args.kwonlyargs]


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _keys(node: ast.AST) -> Iterator[str]:
    """Texts by which a mapping is made or asked."""
    asked: list[ast.expr | None] = []
    if isinstance(node, ast.Subscript):
        asked = [node.slice]
    elif isinstance(node, ast.Dict):
        asked = list(node.keys)
    elif isinstance(node, ast.Call) and _name(node.func) in ("get", "pop") and node.args:
        asked = [node.args[0]]
    for key in asked:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def reads_of_weights(folder: Path) -> list[str]:
    """How often weights, ours and another project's, are opened when the door opens them."""
    import safetensors
    import torch

    import backbones.weights.model_file as model_file
    from backbones import build_backbone, save_weights
    from deploy.models import open_model
    from detection.building import build_detector, save_detector
    from detection.settings import default_settings

    torch.manual_seed(0)
    network = build_backbone("resnet20", 10)
    save_weights(network, folder / "c.safetensors", "resnet20")
    detector = build_detector(default_settings("resnet20", ("a",), channels=16, vector=16))
    save_detector(detector, folder / "d.safetensors")
    from torchvision.models import resnet18

    torch.save(resnet18(num_classes=3).state_dict(), folder / "theirs.pth")
    opened: list[str] = []
    watching = [True]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if watching[0] and event == "open" and str(arguments[0]).endswith((".pth", ".safetensors")):
            opened.append(Path(str(arguments[0])).name)

    def open_safetensors(path: Path, **how: object) -> object:  # its own code, in Rust, is not heard
        opened.append(Path(path).name)
        return safetensors.safe_open(path, **how)

    sys.addaudithook(hear)
    own, model_file.safe_open = model_file.safe_open, open_safetensors  # type: ignore[misc, assignment]
    try:
        for name, arch in (("c.safetensors", None), ("d.safetensors", None), ("theirs.pth", "resnet18")):
            open_model(folder / name, arch=arch)
    finally:
        watching[0], model_file.safe_open = False, own  # type: ignore[misc]
    return opened


ROWS: dict[str, tuple[Callable[[], list[str]], int]] = {
    "functions that open a model": (openers, 5),
    "places that compare a head's name": (names_of_heads, 0),
    "files that name the metadata's fields": (readers_of_metadata, 4),
    "places that choose by an engine's name": (names_of_engines, 0),
}
"""Each question, who counts, and how many are wanted at most."""


NEW = (
    "backbones/classification.py", "backbones/extras.py", "backbones/running/known_files.py",
    "backbones/running/outputs.py", "detection/drawn_result.py", "deploy/export_names.py",
)  # fmt: skip
"""Files that only hold what is new: results that list and draw themselves, names of outputs, extras."""


def logical_lines(root: Path) -> dict[str, int]:
    """Statements of each package, and of the files that are ``NEW``; docstrings are none."""
    lines = dict.fromkeys((*PACKAGES, "new"), 0)
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            count = sum(map(_is_statement, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
            lines[package] += count
            lines["new"] += count if str(path.relative_to(root)) in NEW else 0
    return {**lines, "all": sum(lines[package] for package in PACKAGES)}


def _is_statement(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.stmt) and not text


def main() -> int:
    """Print the table; 1 if a row does not hold."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--output", help="JSON file for the logical lines")
    options = parser.parse_args()
    if options.against:
        from backbones.running.measurement import write_measurement

        counts = {"before": logical_lines(options.against), "after": logical_lines(ROOT)}
        print("logical lines", *(f"{name}: {lines}" for name, lines in counts.items()), sep="\n")
        if options.output:
            target = "of the trainers, the openers of models and what is served 1,000 fewer, without what is new"
            asked = ["git", "-C", str(options.against), "rev-parse", "--short=10", "HEAD"]
            before = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
            what = "statements of the source, docstrings left out"
            write_measurement(options.output, what, counts, target=target, settings={"before": before})
    held = True
    for question, (count, most) in ROWS.items():
        places = count()
        held &= len(places) <= most
        print(f"{question:<42} {len(places):>3} of at most {most}   {', '.join(places)}")
    with tempfile.TemporaryDirectory() as folder:
        opened = reads_of_weights(Path(folder))
    held &= len(opened) == len(set(opened))
    print(f"{'reads of each weights file':<42} {max(map(opened.count, opened)):>3} of at most 1")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
