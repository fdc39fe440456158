"""The command in fresh interpreters: what it imports, whom it talks to, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

from tests.conftest import ROOT
from tests.demo.running_page import RunningPage

SPY = """
import json, sys
contacts = []
def spy(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"):
        contacts.append((event, repr(arguments[1] if event.startswith(("socket.conn", "socket.send", "socket.bind")) else arguments[0])))
sys.addaudithook(spy)
from demo.app import PageOptions
from demo.launching import running_page
detector, classifier, picture = sys.argv[1:]
options = PageOptions(detector=(detector,), classifier=(classifier,), port=0)
with running_page(options) as url:
    from gradio_client import Client, handle_file
    client = Client(url, verbose=False)
    found = client.predict(handle_file(picture), api_name="/detect")
    named = client.predict(handle_file(picture), api_name="/classify")
    for address in ("http://example.com/a.png", "https://example.org/b.png", "http://10.1.2.3/c.png"):
        try:
            client.predict({"path": address, "meta": {"_type": "gradio.FileData"}}, api_name="/detect")
        except Exception as error:
            assert "fetches no addresses" in str(error), error
        else:
            raise AssertionError("an address was taken")
loaded = {name.split(".")[0] for name in sys.modules}
print(json.dumps({"contacts": contacts, "loaded": sorted(loaded), "found": found, "named": named}))
"""  # noqa: E501


def test_no_contact_beyond_loopback_and_no_torch(models: dict[str, Path], bright: bytes, tmp_path: Path) -> None:
    picture = tmp_path / "bright.png"
    picture.write_bytes(bright)
    command = [sys.executable, "-c", SPY, str(models["masks"]), str(models["classifier"]), str(picture)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout.splitlines()[-1])
    assert seen["found"]["detections"] and seen["named"]["classes"]
    assert not {"torch", "torchvision", "sklearn", "scipy", "onnx"} & set(seen["loaded"])
    assert any("127.0.0.1" in where for _, where in seen["contacts"])  # the spy sees
    beyond = [
        (event, where)
        for event, where in seen["contacts"]
        if not any(near in where for near in ("127.0.0.1", "localhost", "'::1'")) and "'/" not in where
    ]
    assert not beyond


def test_login_closes_the_page(models: dict[str, Path], bright: bytes, tmp_path: Path) -> None:
    visitors = tmp_path / "visitors.txt"
    visitors.write_text("ann:correct horse\n")
    visitors.chmod(0o600)
    picture = tmp_path / "bright.png"
    picture.write_bytes(bright)
    with RunningPage(["--detector", models["detector"], "--auth-file", visitors], tmp_path) as page:
        assert page.upload(bright).status_code == 401
        for route in ("config", "gradio_api/info", "gradio_api/file=x"):
            assert httpx.get(f"{page.url}/{route}").status_code == 401
        assert page.call("detect", [None])[0] == "status 401"
        with pytest.raises(Exception, match=r"(?i)credential|auth|log"):
            Client(page.url, auth=("ann", "wrong"), verbose=False)
        client = Client(page.url, auth=("ann", "correct horse"), verbose=False)
        assert client.predict(handle_file(picture), api_name="/detect")["detections"]
    assert "correct horse" not in "".join(page.lines)


def test_nothing_is_left_behind(models: dict[str, Path], bright: bytes, tmp_path: Path) -> None:
    with RunningPage(["--detector", models["detector"]], tmp_path) as page:
        page.upload(bright)
        assert page.temporary_files()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()] and page.process.returncode == 0


def test_mistakes_end_in_one_line(
    run_script: Callable[..., subprocess.CompletedProcess[str]], models: dict[str, Path], tmp_path: Path
) -> None:
    cases = [
        ([], "make quickstart"),
        (["--detector", "absent.onnx"], "absent.onnx: no such file"),
        (["--detector", models["classifier"]], "not a detector"),
        (["--classifier", models["detector"]], "not a classifier"),
        (["--detector", models["detector"], "--auth-file", "absent.txt"], "absent.txt: cannot be read"),
    ]
    for arguments, message in cases:
        run = run_script("demo/app.py", *arguments, cwd=tmp_path)
        assert run.returncode == 1 and message in run.stderr, run.stderr
        assert run.stderr.strip().count("\n") == 0
    taken = RunningPage(["--detector", models["detector"]], tmp_path)
    with taken as page:
        run = run_script("demo/app.py", "--detector", models["detector"], "--port", page.url.rpartition(":")[2])
        assert run.returncode == 1 and "--port" in run.stderr.splitlines()[-1]


def test_the_examples_are_the_scenes_that_the_project_composes(tmp_path: Path) -> None:
    from backbones.images import read_image
    from demo.write_examples import main

    assert main(["--output", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in (ROOT / "demo/examples").iterdir()}
    for name in names:
        assert (read_image(tmp_path / name) == read_image(ROOT / "demo/examples" / name)).all()


def test_the_page_writes_nothing_beside_its_source() -> None:
    assert not list((ROOT / "demo").rglob("*.pyi")) and os.access(ROOT / "demo", os.R_OK)
