"""Model repositories: valid for Triton, whole or absent, and served only as they were written."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

pytest.importorskip("tritonclient", reason="needs the extra serve")
from backbones.errors import InputError
from deploy import load_runtime
from deploy.client import Client
from deploy.engines.plan_metadata import EngineRecord, sha256_of, sidecar_of
from deploy.engines.profiles import Profile
from deploy.repository import RepositoryOptions
from deploy.serve import ServeOptions
from deploy.serving.installation import Installation, environment, find_triton
from deploy.serving.launching import choose_engine, read_key
from deploy.serving.repository_files import PYTHON, TEXT, check_repository, write
from deploy.serving.triton_server import TritonProcess, free_port
from tests.conftest import ROOT
from tests.deploy.running_servers import need_triton
from tests.deploy.stand_in_models import write_classifier, write_detector

model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs the extra serve")


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return write_detector(tmp_path / "boxes.onnx", masks=True)


def written(tmp_path: Path, *models: Path, **options: object) -> Path:
    listed = tuple(map(str, models))
    return write(RepositoryOptions(model=listed, output=str(tmp_path / "repository"), quiet=True, **options))  # type: ignore[arg-type]


def as_plan(model: Path, library: str = "tensorrt", strip_weights: bool = False) -> Path:
    """A file that only a GPU could load, and its sidecar."""
    plan = model.with_suffix(".plan")
    plan.write_bytes(b"not for this machine")
    about = json.loads(model.with_suffix(".json").read_text())
    profiles = tuple(
        Profile(name, *({"images": (batch, side, side, 3)} for batch, side in ((1, 64), (1, 64), (most, 256))))
        for name, most in (("small", 8), ("large", 4))
    )
    record = EngineRecord(
        library, "11.4", None, "none", False, False, strip_weights, profiles, model.name, "", 1.0, "python ..."
    )
    sidecar_of(plan).write_text(json.dumps(about | {"sha256": sha256_of(plan), "engine": record.to_dict()}))
    return plan


def test_configurations_are_tritons(tmp_path: Path, detector: Path) -> None:
    repository = written(tmp_path, detector, write_classifier(tmp_path / "animals.onnx"), max_batch_size=4, instances=2)
    configs = {}
    for path in repository.glob("*/config.pbtxt"):
        configs[path.parent.name] = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert set(configs) == {"boxes", "animals"}  # one folder for each
    for config in configs.values():
        assert config.backend == "python"
        assert config.max_batch_size == 4
        assert config.input[0].allow_ragged_batch
        assert config.instance_group[0].count == 2
        assert config.HasField("dynamic_batching")
        assert not config.dynamic_batching.HasField("default_queue_policy")  # it stalls for half a second


def test_a_plan_is_tritons_own_to_run(tmp_path: Path, detector: Path) -> None:
    configs = check_repository(written(tmp_path, as_plan(detector), max_batch_size=16))
    assert set(configs) == {"boxes", "boxes_graph"}
    graph = configs["boxes_graph"]
    assert graph.platform == "tensorrt_plan"
    assert list(graph.instance_group[0].profile) == ["0", "1"]
    assert {config.max_batch_size for config in configs.values()} == {4}  # as far as the plan's profiles go


def test_a_plan_without_its_sidecar_is_refused(tmp_path: Path, detector: Path) -> None:
    plan = as_plan(detector)
    sidecar_of(plan).unlink()
    with pytest.raises(InputError, match=r"boxes\.plan\.json: no such file"):
        written(tmp_path, plan)


def test_plans_that_the_server_could_not_run_are_refused(tmp_path: Path, detector: Path) -> None:
    with pytest.raises(InputError, match="without weights"):
        written(tmp_path, as_plan(detector, strip_weights=True))
    rtx = as_plan(detector, library="tensorrt_rtx")
    with pytest.raises(InputError, match="--plans python"):
        written(tmp_path, rtx)
    assert set(check_repository(written(tmp_path, rtx, plans="python"))) == {"boxes"}


@pytest.mark.triton
def test_gpu_repositories_lack_only_the_backend(tmp_path: Path, detector: Path) -> None:
    need_triton()
    repository = written(tmp_path, as_plan(detector))
    installation = find_triton(None)
    assert installation is not None
    process = TritonProcess(installation, repository, free_port(), explicit=False)
    with pytest.raises(InputError, match="unable to find backend library for backend 'tensorrt'"):
        process.start()
    process.stop()
    failures = [line for line in process.log if line.startswith("E") and "CudaDriverHelper" not in line]
    foreign = [line for line in failures if "unable to find backend library for backend 'tensorrt'" not in line]
    assert failures
    assert foreign == []


GRAPH = """
import triton_python_backend_utils as triton
from deploy import load_runtime
from deploy.serving.backend import _array, _tensor

class TritonPythonModel:
    def initialize(self, args):
        self.session = load_runtime(%r).session

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        found = self.session.run({name: _array(request, name) for name in ("images", "sizes")})
        found["exact"] = found["exact"][:, None]
        return triton.InferenceResponse([_tensor(name, array) for name, array in found.items()])
"""


@pytest.mark.triton
def test_a_graph_that_triton_runs_gives_what_the_runtime_gives(tmp_path: Path, detector: Path) -> None:
    """Python takes the place of the TensorRT backend, which needs a GPU."""
    need_triton()
    repository = written(tmp_path, as_plan(detector))
    config = check_repository(repository)["boxes_graph"]
    config.platform = config.default_model_filename = ""
    config.backend = "python"
    del config.instance_group[:]
    config.output[3].ClearField("reshape")
    (repository / "boxes_graph" / "config.pbtxt").write_text(text_format.MessageToString(config))
    (repository / "boxes_graph" / "1" / PYTHON).write_text(GRAPH % str(detector))
    installation = find_triton(None)
    assert installation is not None
    process = TritonProcess(installation, repository, free_port(), explicit=False)
    pictures = [np.full((height, 90, 3), 200, np.uint8) for height in (60, 90, 200)]
    try:
        process.start()
        with Client(f"http://127.0.0.1:{process.http_port}", "boxes") as client:
            served = client.detect(pictures)
    finally:
        process.stop()
    runtime = load_runtime(detector)
    for (_, wanted), found in zip(sorted(runtime.predict_each(pictures, 1)), served, strict=True):  # type: ignore[union-attr]
        assert len(found) > 0
        assert found.to_json(runtime.classes) == wanted.to_json(runtime.classes)


def test_versions_and_other_models_stay(tmp_path: Path, detector: Path) -> None:
    repository = written(tmp_path, detector)
    first = (repository / "boxes" / "1" / "model.onnx").stat().st_ino
    written(tmp_path, write_classifier(tmp_path / "animals.onnx"))
    written(tmp_path, detector, version=2)
    assert (repository / "boxes" / "1" / "model.onnx").stat().st_ino == first
    assert (repository / "boxes" / "2" / "model.onnx").is_file()
    assert "animals" in check_repository(repository)
    assert not list(tmp_path.glob("repository.*"))


def test_plans_for_tensorrt_are_not_made_of_the_flavour_ops(tmp_path: Path) -> None:
    ops, portable = (write_detector(tmp_path / f"{name}.onnx", flavour=name) for name in ("ops", "portable"))
    written(tmp_path, ops, portable)
    written(tmp_path, portable, plans="tensorrt")
    with pytest.raises(InputError, match=r"ops\.onnx: is of the flavour ops, .* --flavour portable"):
        written(tmp_path, ops, plans="tensorrt")


def test_a_plan_that_our_runtime_runs_takes_the_place_of_tritons(tmp_path: Path, detector: Path) -> None:
    plan = as_plan(detector)
    assert set(check_repository(written(tmp_path, plan))) == {"boxes", "boxes_graph"}
    assert set(check_repository(written(tmp_path, plan, plans="python"))) == {"boxes"}


def test_an_engine_that_does_not_run_the_file_is_refused(tmp_path: Path, detector: Path) -> None:
    parameters = check_repository(written(tmp_path, detector, engine="onnxruntime"))["boxes"].parameters
    assert parameters["engine"].string_value == "onnxruntime"
    with pytest.raises(InputError, match="tensorrt does not run it"):
        written(tmp_path, detector, engine="tensorrt")


OLD = """
name: "%s" max_batch_size: 4 instance_group { count: 2 } dynamic_batching { max_queue_delay_microseconds: 500 }
%s parameters { key: "%s" value { string_value: "%s" } }
"""


def test_a_repository_of_four_folders_is_refused_with_the_command_that_writes_it_anew(
    tmp_path: Path, detector: Path
) -> None:
    repository = tmp_path / "old one"
    for name, kind, key, value in (
        ("boxes", 'platform: "ensemble"', "task", "detection"),
        ("boxes_picture", 'backend: "python"', "max_pixels", "90"),
        ("boxes_graph", 'backend: "python"', "threads", "3"),
        ("boxes_answer", 'backend: "python"', "stage", "answer"),
    ):
        (repository / name / "2").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(OLD % (name, kind, key, value))
    file = repository / "boxes_graph" / "2" / "model.onnx"
    file.write_bytes(detector.read_bytes())
    with pytest.raises(InputError) as refused:
        check_repository(repository)
    message = str(refused.value)
    assert "\n" not in message
    command = shlex.split(message.partition("anew: ")[2])
    assert command[:2] == ["python", "deploy/repository.py"]
    run = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    config = check_repository(Path(f"{repository}-new"))["boxes"]
    assert (config.max_batch_size, config.instance_group[0].count) == (4, 2)
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert {config.parameters[key].string_value for key in ("threads", "max_pixels")} == {"3", "90"}
    assert (Path(f"{repository}-new") / "boxes" / "2" / "model.onnx").read_bytes() == file.read_bytes()
    with pytest.raises(InputError, match=r"deploy/repository\.py --model"):
        write(RepositoryOptions(model=(str(detector),), output=str(repository), quiet=True))


def test_a_failure_leaves_the_old_repository(tmp_path: Path, detector: Path) -> None:
    repository = written(tmp_path, detector)
    before = sorted(repository.rglob("*"))
    about = detector.with_name("other.onnx")
    about.write_bytes(b"rubbish")
    with pytest.raises(InputError):
        written(tmp_path, about)
    assert sorted(repository.rglob("*")) == before
    assert not list(tmp_path.glob("repository.*"))


def test_versions_of_a_model_have_one_task_and_a_link_stays_one(tmp_path: Path, detector: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "repository").symlink_to("disk")
    repository = written(tmp_path, detector)
    assert repository.is_symlink() and (tmp_path / "disk/boxes/1/model.onnx").is_file()
    classifier = write_classifier(tmp_path / "animals.onnx")
    with pytest.raises(InputError, match="is a classifier, but boxes of this repository is a detector; give another"):
        written(tmp_path, classifier, name=("boxes",), version=2)
    assert sorted(path.name for path in (repository / "boxes").iterdir()) == ["1", "config.pbtxt"]


def test_names(tmp_path: Path) -> None:
    first = write_detector(tmp_path / "runs" / "cells" / "model.onnx")
    assert "cells" in check_repository(written(tmp_path, first))
    assert "cells" in check_repository(written(tmp_path, first.parent))  # a run folder
    with pytest.raises(InputError, match="two models would be called cells"):
        written(tmp_path, first, first)
    with pytest.raises(InputError, match="letters, digits"):
        written(tmp_path, first, name=("../up",))
    with pytest.raises(InputError, match="not an exported model"):
        written(tmp_path, Path("model.pt"))


@pytest.mark.parametrize(
    ("place", "text", "reason"),
    [
        ("boxes/1/model.py", "import os", "not what this version"),
        ("boxes/1/extra.py", "", "writes no such thing"),
        ("boxes/1/extra.so", "", "writes no such thing"),
        ("boxes/run.sh", "", "writes no such thing"),
        ("mine/1/model.py", "", "config.pbtxt"),
        ("boxes/config.pbtxt", 'name: "boxes" dynamic_batchin {}', "1:15 : Message type"),
        ("boxes/config.pbtxt", 'name: "boxes" backend: "onnxruntime"', "backend 'onnxruntime'"),
        ("boxes/config.pbtxt", 'name: "other" backend: "python"', "called 'other'"),
        (
            "boxes/config.pbtxt",
            'name: "boxes" backend: "python" parameters { key: "EXECUTION_ENV_PATH" value { string_value: "" } }',
            "EXECUTION_ENV_PATH",
        ),
    ],
)
def test_what_the_generator_did_not_write_is_not_served(
    tmp_path: Path, detector: Path, place: str, text: str, reason: str
) -> None:
    repository = written(tmp_path, detector)
    (repository / place).parent.mkdir(parents=True, exist_ok=True)
    (repository / place).write_text(text)
    with pytest.raises(InputError, match=re.escape(reason)):
        check_repository(repository)


def test_compiled_python_and_links_do_not_slip_in(tmp_path: Path, detector: Path) -> None:
    repository = written(tmp_path, detector, write_detector(tmp_path / "others.onnx"))
    compiled = repository / "boxes" / "1" / "__pycache__"
    compiled.mkdir()
    (compiled / "model.cpython-311.pyc").write_bytes(b"anything")
    check_repository(repository)
    assert not compiled.exists()
    source = repository / "boxes" / "1" / PYTHON
    source.unlink()
    source.symlink_to(repository / "others" / "1" / PYTHON)
    with pytest.raises(InputError, match="writes no such thing"):
        check_repository(repository)


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef\n")
    assert read_key(ServeOptions()) is None
    assert read_key(ServeOptions(model_control="explicit", admin_key_file=str(path))) == "0123456789abcdef"
    for options, reason in (
        (ServeOptions(model_control="explicit"), "needs --admin-key-file"),
        (ServeOptions(admin_key_file=str(path)), "is for --model-control"),
    ):
        with pytest.raises(InputError, match=reason):
            read_key(options)
    path.write_text("short")
    with pytest.raises(InputError, match="at least 16"):
        read_key(ServeOptions(model_control="explicit", admin_key_file=str(path)))


def test_finding_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("deploy.serving.installation.find_spec", lambda name: None)
    assert find_triton(None) is None
    with pytest.raises(InputError, match="docker run"):
        choose_engine(ServeOptions(server="triton"), tmp_path)
    assert choose_engine(ServeOptions(), tmp_path).name == "the built-in server"
    with pytest.raises(InputError, match="holds neither"):
        find_triton(str(tmp_path))
    server = tmp_path / "wheel" / "pytriton" / "tritonserver"
    (server / "bin").mkdir(parents=True)
    (server / "bin" / "tritonserver").touch()
    (tmp_path / "wheel" / "nvidia_pytriton.libs").mkdir()
    monkeypatch.setenv("TRITON_DIR", str(tmp_path / "wheel"))
    found = find_triton(None)
    assert found is not None
    process = TritonProcess(found, tmp_path, 8001, explicit=False)
    command = process.command(tmp_path)
    process.stop()
    for protocol in ("http", "grpc", "metrics"):
        assert f"--{protocol}-address=127.0.0.1" in command
    assert {"--model-control-mode=none", "--strict-readiness=true", "--disable-auto-complete-config"} <= set(command)


def test_a_model_in_triton_runs_the_code_that_serves_it(tmp_path: Path) -> None:
    """Not the one that is installed, though Triton's Python reads no ``$PYTHONPATH``."""
    (tmp_path / "deploy/serving").mkdir(parents=True)
    (tmp_path / "deploy/serving/backend.py").write_text("TritonPythonModel = 'of this folder'")
    (tmp_path / "model.py").write_text(TEXT + "print(TritonPythonModel)\n")
    variables = environment(Installation(tmp_path, tmp_path), tmp_path)
    command = [sys.executable, "-I", tmp_path / "model.py"]
    run = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert run.stdout == "of this folder\n", run.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import deploy.client; deploy.client.Client",
        "import deploy.serving.launching, deploy.serving.repository_files",
        "import deploy.serving.backend",
        "from deploy import load_runtime",
    ],
)
def test_serving_needs_no_torch(code: str) -> None:
    listing = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{listing}"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert not {"torch", "torchvision", "pycocotools", "onnx"} & loaded
    assert "backend" not in code or not {"tritonclient", "google", "aiohttp"} & loaded  # Triton's container lacks them
