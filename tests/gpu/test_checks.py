"""What must hold on a GPU, and on the CPU, where the same code runs operation by operation."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.checks import COMPILING, QUICK

CHECKS = {**QUICK, **COMPILING}
GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a torch that sees it"),
)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("name", CHECKS)
def test_it_holds(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cpu" and name in COMPILING:  # compiling itself has tests of its own, and takes minutes here
        monkeypatch.setattr(torch, "compile", lambda function=None, **_: function)
    CHECKS[name](torch.device(device))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILING)
def test_it_holds_when_traced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, by the front of the compiler alone: one graph, its operations one by one."""
    whole = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function=None, mode=None, **settings: whole(function, backend="eager", **settings)
    )
    torch._dynamo.reset()
    CHECKS[name](torch.device("cpu"))
