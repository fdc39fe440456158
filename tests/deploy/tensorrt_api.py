"""The list of TensorRT's Python calls in ``tensorrt_api.json``, and what can be checked against it.

The list holds names and argument names of the TensorRT 11.4 bindings, of the calls that this project makes; under
``rtx`` what TensorRT-RTX has beyond them. A method is a list of overloads; an overload lists its arguments, with
``=`` behind those that have a default.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("tensorrt_api.json")

HELD = {
    "builder": "Builder", "config": "IBuilderConfig", "network": "INetworkDefinition", "parser": "OnnxParser",
    "runtime": "Runtime", "engine": "ICudaEngine", "context": "IExecutionContext",
    "optimization_profile": "IOptimizationProfile",
    "cache": "ITimingCache", "refitter": "Refitter", "weights_parser": "OnnxParserRefitter", "error": "ParserError",
}  # fmt: skip
"""What our code calls the objects of each class; an underscore or an owner in front makes no difference."""


@cache
def api() -> dict[str, Any]:
    """Classes and enums of both libraries."""
    read = json.loads(_FILE.read_text())
    classes = {name: dict(members) for name, members in read["classes"].items()}
    for name, members in read["rtx"]["classes"].items():
        classes[name] |= members
    return {"version": read["version"], "classes": classes, "enums": read["enums"] | read["rtx"]["enums"]}


def fits(overloads: Sequence[Sequence[str]], positional: int, keywords: Sequence[str]) -> bool:
    """Whether a call with so many positional and these keyword arguments matches an overload."""
    for arguments in overloads:
        names = [argument.rstrip("=") for argument in arguments]
        later = arguments[positional:]
        if positional > len(names) or not set(keywords) <= set(names[positional:]):
            continue
        if all(argument.endswith("=") or argument in keywords for argument in later):
            return True
    return False


def check_source(text: str) -> tuple[int, list[str]]:
    """How many uses of TensorRT a file has that were checked, and those that its API does not have."""
    checked, wrong = 0, []
    tree = ast.parse(text)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
            continue
        problem = _problem(node, called.get(id(node)))
        if problem is not None:
            checked += 1
            wrong += [f"line {node.lineno}: {problem}"] if problem else []
    return checked, wrong


def _problem(node: ast.Attribute, call: ast.Call | None) -> str | None:
    """What is wrong with a use of TensorRT; empty if nothing is, None if it is none."""
    owner = _name(node.value)
    if owner == "trt":
        known = {**api()["classes"], **api()["enums"]}
        if node.attr not in known:
            return f"trt.{node.attr} does not exist"
        constructor = api()["classes"].get(node.attr, {}).get("__init__")
        return _call_problem(node.attr, constructor, call) if call else ""
    enum = _name(node.value.value) == "trt" if isinstance(node.value, ast.Attribute) else False
    if enum and owner in api()["enums"]:
        return "" if node.attr in api()["enums"][owner] else f"{owner}.{node.attr} is no member"
    kind = HELD.get(owner.lstrip("_"))
    if kind is None:
        return None
    member = api()["classes"][kind].get(node.attr)
    if member is None:
        return f"{kind}.{node.attr} does not exist"
    return _call_problem(f"{kind}.{node.attr}", member, call) if call else ""


def _call_problem(name: str, overloads: Any, call: ast.Call) -> str:
    if not isinstance(overloads, list):
        return f"{name} is no method"
    keywords = [word.arg or "**" for word in call.keywords]
    return "" if fits(overloads, len(call.args), keywords) else f"{name}: no overload takes these arguments"


def _name(node: ast.expr) -> str:
    """The last name of ``a``, ``self.a`` or ``x.y.a``."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
