"""One picture, one threshold: Python, the commands, curl, tritonclient, our client and gradio_client find the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client as PageClient
from gradio_client import handle_file

pytest.importorskip("tritonclient.http", reason="needs the extra serve")

import tritonclient.http as tritonclient

from deploy import load_runtime
from deploy.client import Client
from deploy.serving.service import found_in
from tests.conftest import ROOT
from tests.demo.running_page import RunningPage
from tests.deploy.running_servers import SERVERS, RunningServer, start

STORED = (0.3, 0.9, 0.1)
"""What the stand-in ``stored`` holds (conftest)."""
OUTPUTS = ("boxes", "scores", "labels", "size")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, models: dict[str, Path]) -> Iterator[RunningServer]:
    with start(request.param, models["stored"], "--name", "stored") as running:
        yield running


@pytest.fixture
def picture(bright: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "in" / "bright.png"
    path.parent.mkdir()
    path.write_bytes(bright)
    return path


def run(*command: object) -> str:
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True).stdout


def by_tritonclient(address: str, picture: Path) -> Any:
    """All that the server finds, by the library itself."""
    client = tritonclient.InferenceServerClient(address.removeprefix("http://"))
    data = np.frombuffer(picture.read_bytes(), np.uint8)[None]
    tensor = tritonclient.InferInput("image", list(data.shape), "UINT8")
    tensor.set_data_from_numpy(data)
    answer = client.infer("stored", [tensor])
    client.close()
    return found_in({name: answer.as_numpy(name) for name in OUTPUTS})


@pytest.mark.parametrize("threshold", [None, 0, 0.25])
def test_every_surface_finds_the_same(
    page: RunningPage, server: RunningServer, models: dict[str, Path], picture: Path, threshold: float | None
) -> None:
    """An explicit threshold, else the model's stored ones; 0 gives all six."""
    least = STORED if threshold is None else threshold
    runtime = load_runtime(models["stored"])
    wanted = runtime.predict(picture, threshold=threshold).to_json()
    assert wanted == runtime.predict(picture, threshold=0).above(least).to_json()
    assert len(wanted) == {None: 3, 0: 6, 0.25: 4}[threshold]
    query = "" if threshold is None else f"?threshold={threshold}"
    flags = [] if threshold is None else ["--threshold", threshold]

    assert server.ask(f"/predict/stored{query}", picture.read_bytes()) == (200, wanted)
    if shutil.which("curl"):
        assert (
            json.loads(run("curl", "-sf", "--data-binary", f"@{picture}", f"{server.url}/predict/stored{query}"))
            == wanted
        )
    assert by_tritonclient(server.url, picture).above(least).to_json(runtime.classes) == wanted
    with Client(server.url) as client:
        assert client.predict(picture, threshold).to_json() == wanted
    told = run(sys.executable, ROOT / "deploy/client.py", "--url", server.url, *flags, picture)
    assert json.loads(told)["detections"] == wanted
    answer = PageClient(page.url, verbose=False).predict(
        handle_file(picture), "stored", **({} if threshold is None else {"threshold": threshold}), api_name="/detect"
    )
    assert answer["detections"] == wanted


@pytest.mark.parametrize("threshold", [None, 0.25])
def test_commands_list_what_python_finds(models: dict[str, Path], picture: Path, threshold: float | None) -> None:
    wanted = load_runtime(models["stored"]).predict(picture, threshold=threshold).to_json()
    flags = [] if threshold is None else ["--threshold", threshold]
    output = picture.parent.parent / "found"
    given = ["--model", models["stored"], *flags, "--quiet", picture]
    run(sys.executable, ROOT / "detection/predict.py", *given, "--save", "json", "--output", output)
    (listed,) = json.loads((output / "detections.json").read_text())["pictures"]
    assert listed["detections"] == wanted
    run(sys.executable, ROOT / "deploy/batch.py", *given, "--format", "jsonl", "--output", output / "parts")
    (part,) = (output / "parts").glob("*.jsonl")
    assert json.loads(part.read_text())["detections"] == wanted
