"""One contract, two servers: Triton (where it is) and the built-in one answer alike, and like ``load_runtime``."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tritonclient", reason="needs the extra serve")
from backbones.errors import InputError
from deploy import load_runtime
from deploy.client import AsyncClient, Client, ServerError
from deploy.repository import RepositoryOptions
from deploy.serving.protocol import Reply
from deploy.serving.repository_files import write
from detection.detections import Detections
from detection.masks.compressed import decompress
from detection.masks.run_length import RunLengthMasks
from tests.conftest import ROOT
from tests.deploy.running_servers import SERVERS, RunningServer, start
from tests.deploy.stand_in_models import write_classifier, write_detector, write_segmenter

KEY = "0123456789abcdef0123"
THRESHOLDS = (0.3, 0.1, 0.25)
CATEGORY_IDS = (5, 17, 90)
SIZES = ((40, 60), (64, 64), (90, 50), (33, 47), (200, 120))


def jpeg(size: tuple[int, int], seed: int = 0, darkest: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(darkest, 256, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


PICTURES = [jpeg(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_classifier(folder / "animals.onnx")
    write_detector(folder / "boxes.onnx", score_thresholds=THRESHOLDS, category_ids=CATEGORY_IDS)
    write_detector(folder / "shapes.onnx", masks=True)
    write_segmenter(folder / "ground.onnx")
    return folder


@pytest.fixture(scope="module")
def repository(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("served") / "repository"
    exported = tuple(str(path) for path in sorted(models.glob("*.onnx")))
    write(RepositoryOptions(model=exported, output=str(target), queue_delay=300_000, threads=1, quiet=True))
    return target


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, repository: Path) -> Iterator[RunningServer]:
    with start(request.param, repository, "--max-body", 0.2) as running:
        yield running


@pytest.fixture(scope="module", params=SERVERS)
def managed(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, Path]]:
    """A server whose models may be changed, and its own copy of the repository."""
    folder = tmp_path_factory.mktemp("managed")
    shutil.copytree(repository, folder / "repository")
    (folder / "key").write_text(KEY + "\n")
    arguments = ("--model-control", "explicit", "--admin-key-file", folder / "key")
    with start(request.param, folder / "repository", *arguments) as running:
        yield running, folder / "repository"


def assert_same(served: list[Detections], local: list[Detections]) -> None:
    assert len(served) == len(local)
    for ours, theirs in zip(served, local, strict=True):
        assert len(theirs) > 0
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        if theirs.masks is not None:
            np.testing.assert_array_equal(np.asarray(ours.masks), np.asarray(theirs.masks))


def everything(model: Path, pictures: list[bytes]) -> list[Any]:
    """What the runtime finds in each picture, whatever its scores."""
    found = dict(load_runtime(model).predict_each(pictures))  # type: ignore[union-attr]
    return [found[number] for number in range(len(pictures))]


def addresses(server: RunningServer) -> list[str]:
    return [server.url, server.grpc] if server.grpc else [server.url]


@pytest.mark.parametrize("name", ["boxes", "shapes"])
def test_detections_are_those_of_the_runtime(server: RunningServer, models: Path, name: str) -> None:
    local = everything(models / f"{name}.onnx", PICTURES)
    for url in addresses(server):
        with Client(url, name) as client:
            assert client.ready()
            assert client.classes() == ("cat", "dog", "owl")
            assert_same(client.detect(PICTURES), local)


def test_probabilities_are_those_of_the_runtime(server: RunningServer, models: Path) -> None:
    local = load_runtime(models / "animals.onnx").predict(PICTURES)
    for url in addresses(server):
        with Client(url, "animals") as client:
            np.testing.assert_allclose(client.classify(PICTURES), local, atol=1e-5)
            with pytest.raises(InputError, match="no detector"):
                client.detect(PICTURES)


def test_pictures_come_as_files_arrays_and_pillow_images(server: RunningServer, models: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(PICTURES[0])
    image = Image.open(io.BytesIO(PICTURES[0]))
    local = everything(models / "boxes.onnx", PICTURES[:1])
    with Client(server.url, "boxes") as client:
        for same in (tmp_path / "p.jpg", str(tmp_path / "p.jpg"), image, np.asarray(image)):
            assert_same(client.detect([same]), local)
        with pytest.raises(InputError, match="No such file"):
            client.detect([tmp_path / "none.jpg"])


def test_the_asynchronous_client(server: RunningServer, models: Path) -> None:
    async def ask() -> list[list[Detections]]:
        async with AsyncClient(server.url, "boxes") as client:
            return await asyncio.gather(client.detect(PICTURES[:2]), client.detect(PICTURES[2:]))

    local = everything(models / "boxes.onnx", PICTURES)
    first, second = asyncio.run(ask())
    assert_same(first + second, local)


def test_pictures_of_several_sizes_share_a_batch(server: RunningServer) -> None:
    def counts() -> tuple[int, int]:
        entry = server.ask("/v2/models/boxes/stats")[1]["model_stats"][0]
        return entry["inference_count"], entry["execution_count"]

    inferences, executions = counts()
    with Client(server.url, "boxes") as client:
        client.detect(PICTURES)
    after = counts()
    assert after[0] - inferences == len(PICTURES)
    assert after[1] - executions < len(PICTURES)


def test_a_black_picture_has_no_objects(server: RunningServer) -> None:
    with Client(server.url, "shapes") as client:
        (found,) = client.detect([np.zeros((50, 70, 3), np.uint8)])
    assert len(found) == 0
    assert np.asarray(found.masks).shape == (0, 50, 70)


def test_plain_curl(server: RunningServer, models: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "picture.jpg").write_bytes(PICTURES[0])

    def curl(*arguments: str) -> bytes:
        return subprocess.run(["curl", "-sf", *arguments], cwd=tmp_path, capture_output=True, check=True).stdout

    local = load_runtime(models / "shapes.onnx").predict(PICTURES[0], threshold=0.2)
    found = json.loads(curl("--data-binary", "@picture.jpg", f"{server.url}/predict/shapes?threshold=0.2"))
    assert found == local.to_json()
    assert (
        json.loads(curl("--data-binary", "@picture.jpg", f"{server.url}/predict/animals"))[0]["class"] in "cat dog owl"
    )
    raw = curl(
        "--data-binary",
        "@picture.jpg",
        "-H",
        "Inference-Header-Content-Length: 0",
        f"{server.url}/v2/models/boxes/infer",
    )
    assert b'"boxes"' in raw
    numbers = {"name": "image", "datatype": "UINT8", "shape": [1, len(PICTURES[0])], "data": list(PICTURES[0])}
    (tmp_path / "request.json").write_text(json.dumps({"inputs": [numbers]}))
    answer = json.loads(curl("-d", "@request.json", f"{server.url}/v2/models/boxes/infer"))
    assert {output["name"] for output in answer["outputs"]} == {"boxes", "scores", "labels", "size"}


def test_the_clients_command(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(PICTURES[0])
    command = [sys.executable, ROOT / "deploy/client.py", "--url", server.url, "--threshold", "0.2"]
    run = subprocess.run([*command, tmp_path / "picture.jpg"], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == "error: name the model: animals, boxes, ground, shapes\n"
    run = subprocess.run([*command, "--model", "boxes", tmp_path / "picture.jpg"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {thing["class"] for thing in json.loads(run.stdout)["detections"]} <= {"cat", "dog", "owl"}


def test_the_clients_command_names_what_is_refused_and_answers_the_rest(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files = {"a.jpg": PICTURES[0], "b.jpg": b"no picture", "c.jpg": PICTURES[1], "d.mp4": b"", "e.jpg": b""}
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    command = [sys.executable, ROOT / "deploy/client.py", "--url", server.url, "--model", "animals", "in", "none.jpg"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert [json.loads(line)["image"] for line in run.stdout.splitlines()] == ["in/a.jpg", "in/c.jpg"]
    *named, last = run.stderr.splitlines()
    assert sorted(line.split(": ")[1] for line in named) == ["in/b.jpg", "in/d.mp4", "in/e.jpg", "none.jpg"]
    assert "not a JPEG" in run.stderr
    assert last == "error: 4 of the pictures could not be read or were refused; the others are answered"


@pytest.mark.parametrize("threshold", [None, 0, 0.2, 0.45])
@pytest.mark.parametrize("name", ["boxes", "shapes"])
def test_every_way_to_ask_finds_the_same(
    server: RunningServer, models: Path, tmp_path: Path, name: str, threshold: float | None
) -> None:
    """Python, curl, and tritonclient over HTTP and gRPC; without a threshold by the model's own, else 0.5."""
    own = THRESHOLDS if name == "boxes" and threshold is None else [0.5 if threshold is None else threshold] * 3
    picture = jpeg((70, 64), 9, darkest=160)
    (found,) = everything(models / f"{name}.onnx", [picture])
    wanted = found.above(own).to_json(("cat", "dog", "owl"))
    assert 0 < len(wanted) < 6 or threshold == 0
    query = "" if threshold is None else f"?threshold={threshold}"
    assert server.ask(f"/predict/{name}{query}", picture) == (200, wanted)
    if shutil.which("curl"):
        (tmp_path / "p.jpg").write_bytes(picture)
        curl = ["curl", "-sf", "--data-binary", f"@{tmp_path / 'p.jpg'}", f"{server.url}/predict/{name}{query}"]
        assert json.loads(subprocess.run(curl, capture_output=True, check=True).stdout) == wanted
    for url in addresses(server):
        with Client(url, name) as client:
            served = client.predict(picture, threshold)
            assert served.to_json(client.classes()) == wanted
            local = load_runtime(models / f"{name}.onnx").predict(picture, threshold=threshold)
            assert repr(served) == repr(local) and served.size == (70, 64)
            assert [row["category_id"] for row in served.to_coco(1)] == [row["category_id"] for row in local.to_coco(1)]
            assert [one.to_json(client.classes()) for one in client.predict([picture], threshold)] == [wanted]
            assert client.predict([]) == client.detect([]) == []


def test_a_prediction_makes_no_conversion_and_undoes_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file to the reply the built-in server frames once and unframes once: no tensors, no protocol between."""
    from deploy.serving import builtin_server, service

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a conversion")

    for module, name in (
        (builtin_server, "tensors_of"), (builtin_server, "read_request"), (builtin_server, "write_reply"),
        (service, "decompress"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, refuse)

    async def ask() -> Reply:
        engine = builtin_server.BuiltinEngine(repository)
        await engine.open()
        try:
            return await engine.predict("shapes", PICTURES[0], lambda found: Reply.of(200, found.to_json()))
        finally:
            await engine.close()

    reply = asyncio.run(ask())
    assert reply.status == 200
    assert json.loads(reply.body)[0]["mask"]["size"] == list(SIZES[0])


def test_labels_of_pixels_are_those_of_the_runtime(server: RunningServer, models: Path) -> None:
    local = everything(models / "ground.onnx", PICTURES)
    for url in addresses(server):
        with Client(url, "ground") as client:
            for found, wanted in zip(client.predict(PICTURES), local, strict=True):
                np.testing.assert_array_equal(found.labels, wanted.labels)
                np.testing.assert_array_equal(found.scores, wanted.scores)
            with pytest.raises(InputError, match="labels every pixel"):
                client.predict(PICTURES[0], 0.5)
    status, segments = server.ask("/predict/ground", PICTURES[2])
    assert status == 200
    labels = np.full((90, 50), 255)
    for segment in segments:
        mask = RunLengthMasks((90, 50), (decompress(segment["mask"]["counts"].encode()),)).dense(0)
        labels[mask] = ("background", "cat", "dog", "owl").index(segment["class"])
        assert segment["share"] == round(float(mask.mean()), 6)
    np.testing.assert_array_equal(labels, local[2].labels)


def test_pictures_of_one_request_have_their_own_sizes(server: RunningServer, models: Path) -> None:
    """Each row of the answer is what the picture alone has; one that is none is named by its place."""
    rows = [np.frombuffer(picture, np.uint8) for picture in PICTURES[:3]]
    files = np.zeros((3, max(map(len, rows))), np.uint8)
    for file, row in zip(files, rows, strict=True):
        file[: len(row)] = row

    def ask() -> tuple[int, Any]:
        image = {"name": "image", "datatype": "UINT8", "shape": list(files.shape), "data": files.ravel().tolist()}
        return server.ask("/v2/models/ground/infer", json.dumps({"inputs": [image]}).encode())

    status, answer = ask()
    assert status == 200, answer
    outputs = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer["outputs"]}
    assert outputs["size"].tolist() == [list(size) for size in SIZES[:3]]
    for labels, (height, width), wanted in zip(
        outputs["labels"], SIZES, everything(models / "ground.onnx", PICTURES[:3]), strict=False
    ):
        np.testing.assert_array_equal(labels[:height, :width], wanted.labels)
        assert (labels[height:] == 255).all()
    files[1] = 7
    status, answer = ask()
    assert status == 400
    assert "picture 1: image: not a JPEG" in answer["error"]


def test_no_pictures_have_no_classes(server: RunningServer) -> None:
    with Client(server.url, "animals") as client:
        assert client.classify([]).shape == (0, 3)
        assert client.predict([]) == []
        assert client.predict(PICTURES[0]).probabilities.shape == (3,)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        ("/predict/boxes", b"no picture", {}, 400, "not a JPEG"),
        ("/predict/boxes", PICTURES[0][:300], {}, 400, "image"),
        ("/predict/boxes", b"", {}, 400, "empty"),
        ("/predict/boxes", b"x" * 300_000, {}, 413, "200000 bytes"),
        ("/predict/boxes?threshold=high", PICTURES[0], {}, 400, "threshold"),
        ("/predict/boxes?threshold=", PICTURES[0], {}, 400, "threshold"),
        ("/predict/boxes?threshold=1.5", PICTURES[0], {}, 400, "scores lie between 0 and 1"),
        ("/predict/boxes?threshold=nan", PICTURES[0], {}, 400, "scores lie between 0 and 1"),
        ("/predict/ground?threshold=0.5", PICTURES[0], {}, 400, "labels every pixel"),
        ("/predict/boxes?treshold=0.5", PICTURES[0], {}, 400, "treshold: /predict takes the parameter threshold only"),
        ("/predict/boxes?threshold=0.5&threshold=1", PICTURES[0], {}, 400, "threshold: given 2 times"),
        ("/predict/none", PICTURES[0], {}, 404, "none"),
        ("/predict/boxes_graph", PICTURES[0], {}, 404, "boxes_graph"),
        ("/v2/models/none/infer", b'{"inputs": []}', {}, 404, "none"),
        ("/v2/models/boxes/infer", b"{", {}, 400, "parse"),
        ("/v2/models/boxes/infer", PICTURES[0], {"Content-Type": "image/jpeg"}, 200, "boxes"),
        ("/v2/models/boxes/infer", b"GIF89a", {"Content-Type": "image/gif"}, 400, "not a JPEG"),
        ("/v2/systemsharedmemory/region/a/register", b"{}", {}, 404, "here"),
        ("/v2/logging", b"{}", {}, 404, "here"),
    ],
)
def test_what_is_refused_says_why(
    server: RunningServer, path: str, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    got, answer = server.ask(path, body, headers)
    assert got == status, answer
    assert reason in str(answer)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ({"name": "image", "datatype": "UINT8", "shape": [1, 1, 4], "data": [1, 2, 3, 4]}, "unexpected shape"),
        ({"name": "image", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}, "FP32"),
        ({"name": "picture", "datatype": "UINT8", "shape": [1, 1], "data": [1]}, "picture"),
        ({"name": "image", "datatype": "UINT8", "shape": [9, 1], "data": [1] * 9}, "batch-size must be <= 8"),
        ({"name": "image", "datatype": "UINT8", "shape": [1, 3], "data": [1, 2]}, ""),
    ],
)
def test_wrong_tensors_are_refused(server: RunningServer, tensor: dict[str, object], reason: str) -> None:
    status, answer = server.ask("/v2/models/boxes/infer", json.dumps({"inputs": [tensor]}).encode())
    assert status == 400, answer
    assert reason in answer["error"]


def test_health_metadata_and_metrics(server: RunningServer) -> None:
    assert server.ask("/v2/health/live")[0] == server.ask("/v2/health/ready")[0] == 200
    assert server.ask("/v2/models/boxes/ready")[0] == 200
    described = server.ask("/v2/models/boxes")[1]
    assert described["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1]}]
    assert {"name": "boxes", "datatype": "FP32", "shape": [-1, -1, 4]} in described["outputs"]
    assert server.ask("/v2/models/boxes/config")[1]["parameters"]["task"]["string_value"] == '"detection"'
    assert [entry["name"] for entry in server.ask("/models")[1]] == ["animals", "boxes", "ground", "shapes"]
    server.ask("/predict/boxes", PICTURES[0])
    text = server.ask("/metrics")[1]
    assert 'nv_inference_count{model="boxes",version="1"}' in text
    assert 'shortcut_responses_total{code="200"}' in text


def test_models_are_fixed_by_default(server: RunningServer) -> None:
    for verb in ("load", "unload"):
        status, answer = server.ask(f"/v2/repository/models/boxes/{verb}", b"{}", {"admin-key": KEY})
        assert status == 403
        assert "--model-control explicit" in answer["error"]
    assert server.ask("/predict/boxes", PICTURES[0])[0] == 200


@pytest.mark.triton
def test_grpc_clients_manage_nothing(managed: tuple[RunningServer, Path]) -> None:
    if not managed[0].grpc:
        pytest.skip("the built-in server has no gRPC")
    import tritonclient.grpc as grpc

    client = grpc.InferenceServerClient(managed[0].grpc.removeprefix("grpc://"))
    for headers in ({}, {"triton-grpc-protocol-admin-key": KEY}, {"admin-key": KEY}):
        with pytest.raises(grpc.InferenceServerException, match="restricted"):
            client.unload_model("boxes", headers=headers)


def test_changes_need_the_key(managed: tuple[RunningServer, Path]) -> None:
    server, repository = managed

    def change(verb: str, key: str | None = KEY, body: bytes = b"{}") -> int:
        headers = {} if key is None else {"admin-key": key}
        return server.ask(f"/v2/repository/models/animals/{verb}", body, headers)[0]

    assert [change("unload", key) for key in (None, "", KEY + "x", KEY[:-1])] == [403] * 4
    assert server.ask("/predict/animals", PICTURES[0])[0] == 200
    assert change("unload") == 200
    assert server.ask("/predict/animals", PICTURES[0])[0] in (400, 404)
    assert change("load", body=b'{"parameters": {"config": "{}"}}') == 400
    foreign = repository / "animals" / "1" / "model.py"
    text = foreign.read_text()
    foreign.write_text("import os\n")
    assert change("load") == 400
    foreign.write_text(text)
    assert change("load") == 200
    assert server.ask("/predict/animals", PICTURES[0])[0] == 200


@pytest.mark.parametrize("kind", SERVERS)
def test_a_stopping_server_finishes_what_it_has_and_a_full_one_refuses(kind: str, models: Path, tmp_path: Path) -> None:
    arguments = ("--queue-delay", 1_500_000, "--max-queue", 3, "--threads", 1)
    with start(kind, models / "boxes.onnx", *arguments) as server, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(server.ask, "/predict/boxes", picture) for picture in PICTURES[:3]]
        server.in_flight(3)
        status, answer = server.ask("/predict/boxes", PICTURES[3])
        assert status == 503, answer
        assert "try again" in answer["error"]
        server.process.send_signal(signal.SIGTERM)
        assert [one.result()[0] for one in waiting] == [200, 200, 200]
        assert server.process.wait(30) == 0


def test_nobody_there(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9", "boxes") as client:
        assert not client.ready()
        with pytest.raises(ServerError, match=r"127\.0\.0\.1:9: no server answers .*; start deploy/serve.py"):
            client.detect(PICTURES[:1])
    with pytest.raises(InputError, match="expected http"):
        AsyncClient("127.0.0.1:8000")
    for numbers in ({"concurrency": 0}, {"timeout": 0}, {"timeout": float("nan")}):
        with pytest.raises(InputError, match=r"must be at least 1, timeout .* above 0"):
            AsyncClient(**numbers)  # type: ignore[arg-type]
