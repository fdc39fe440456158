"""The manifests fit the schemas of what reads them, and start Triton alike: closed, bounded, on fixed versions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "manifests"
KUBERNETES = "1.37"
FIELDS = json.loads((Path(__file__).parent / "kserve_fields.json").read_text())
KINDS = {"str": str, "int": int, "bool": bool, "dict(str, str)": dict}
Manifest = dict[str, Any]


def documents(name: str) -> list[Manifest]:
    return [found for found in yaml.safe_load_all((FOLDER / name).read_text()) if found]


def of_kind(name: str, kind: str) -> Manifest:
    (found,) = [manifest for manifest in documents(name) if manifest["kind"] == kind]
    return found


def check_kubernetes(manifest: Manifest) -> None:
    """Strictly: fields that Kubernetes does not know are faults too."""
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    assert validate.validate(manifest, KUBERNETES, strict=True) == KUBERNETES


def check_compose(content: Manifest) -> None:
    schemas = pytest.importorskip("check_jsonschema.builtin_schemas", reason="needs check-jsonschema")
    from jsonschema import Draft202012Validator

    Draft202012Validator(schemas.get_builtin_schema("vendor.compose-spec")).validate(content)


def check_fields(fields: dict[str, str], content: Manifest) -> None:
    """Names and kinds of KServe's own fields."""
    for name, value in content.items():
        assert name in fields, f"KServe knows no {name}"
        assert isinstance(value, KINDS.get(fields[name], (dict, list))), name


def pod(manifest: Manifest) -> Manifest:
    """The pod that a Deployment or an InferenceService makes."""
    if manifest["kind"] == "Deployment":
        return manifest["spec"]["template"]["spec"]
    return {name: value for name, value in manifest["spec"]["predictor"].items() if name not in FIELDS["PredictorSpec"]}


PODS = [("kubernetes.yaml", "Deployment"), ("kserve.yaml", "InferenceService")]


@pytest.mark.parametrize("name", ["kubernetes.yaml", "prometheus-adapter.yaml", "kserve.yaml"])
def test_kubernetes_would_take_them(name: str) -> None:
    for manifest in documents(name):
        if manifest["kind"] != "InferenceService":
            check_kubernetes(manifest)


def test_the_schemas_refuse_what_is_wrong() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    deployment = of_kind("kubernetes.yaml", "Deployment")
    pod(deployment)["containers"][0]["image_pull_policy"] = "Always"
    with pytest.raises(validate.ValidationError, match="image_pull_policy"):
        check_kubernetes(deployment)
    compose = documents("compose.yaml")[0]
    compose["services"]["triton"]["shm-size"] = "1gb"
    with pytest.raises(Exception, match="shm-size"):
        check_compose(compose)
    with pytest.raises(AssertionError, match="KServe knows no replicas"):
        check_fields(FIELDS["PredictorSpec"], {"replicas": 3})


def test_kserve_would_take_its_service() -> None:
    service = of_kind("kserve.yaml", "InferenceService")
    check_fields(FIELDS["InferenceService"], service)
    check_fields(FIELDS["InferenceServiceSpec"], service["spec"])
    predictor = service["spec"]["predictor"]
    check_fields(
        FIELDS["PredictorSpec"], {name: predictor[name] for name in predictor if name in FIELDS["PredictorSpec"]}
    )
    check_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod(service)})
    # KServe calls the Deployment so, and ours is the only autoscaler.
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    target = of_kind("kserve.yaml", "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
    assert target == service["metadata"]["name"] + "-predictor"


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_would_take_them(name: str) -> None:
    (content,) = documents(name)
    check_compose(content)


def test_compose_publishes_on_loopback_only_and_changes_nothing() -> None:
    service = documents("compose.yaml")[0]["services"]["triton"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"]
    assert service["volumes"][0]["read_only"]
    assert service["user"] == "1000:1000"
    assert service["cap_drop"] == ["ALL"]
    assert service["shm_size"] == "1gb"
    assert service["healthcheck"]["test"][-1].endswith("/v2/health/ready")
    assert int(service["stop_grace_period"].rstrip("s")) > seconds_to_finish(service["command"])


def seconds_to_finish(command: list[str]) -> int:
    return next(int(flag.partition("=")[2]) for flag in command if flag.startswith("--exit-timeout-secs="))


@pytest.mark.parametrize(("name", "kind"), PODS)
def test_pods_are_closed_probed_and_bounded(name: str, kind: str) -> None:
    spec = pod(of_kind(name, kind))
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")} == {
        "startup": "/v2/health/ready", "readiness": "/v2/health/ready", "liveness": "/v2/health/live",
    }  # fmt: skip
    assert set(container["resources"]) == {"requests", "limits"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
    assert mounts["/models"]["readOnly"]
    sleeping = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] > seconds_to_finish(container["args"]) + sleeping


def test_all_start_triton_alike() -> None:
    compose = documents("compose.yaml")[0]["services"]["triton"]["command"]
    commands = [compose, *(pod(of_kind(name, kind))["containers"][0]["args"] for name, kind in PODS)]
    plain = [[re.sub(r"\$[({]ADMIN_KEY.*?[)}]", "KEY", part) for part in command] for command in commands]
    assert plain[0] == plain[1] == plain[2]
    assert "--model-control-mode=none" in plain[0]
    assert [part for part in plain[0] if part.endswith(":admin-key=KEY")]


def test_the_container_has_a_fixed_version_and_no_root() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    (image,) = [line.split()[1] for line in lines if line.startswith("FROM")]
    release = re.fullmatch(r"nvcr\.io/nvidia/tritonserver:(\d\d\.\d\d)-py3", image)
    assert release
    assert lines[-1] == "USER 1000:1000"
    for line in lines:
        if line.startswith("COPY"):
            assert (ROOT / line.split()[1]).exists()
    for name, kind in PODS:
        assert pod(of_kind(name, kind))["containers"][0]["image"].endswith(f":{release[1]}")


def test_pods_are_scaled_on_the_metric_that_the_adapter_makes() -> None:
    rules = yaml.safe_load(of_kind("prometheus-adapter.yaml", "ConfigMap")["data"]["config.yaml"])["rules"]
    (rule,) = rules
    assert "nv_inference_queue_duration_us" in rule["seriesQuery"]
    assert rule["metricsQuery"].count("(") == rule["metricsQuery"].count(")")
    for name, _ in PODS:
        (metric,) = of_kind(name, "HorizontalPodAutoscaler")["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    deployment = of_kind("kubernetes.yaml", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert (
        deployment["spec"]["selector"]["matchLabels"]
        == labels
        == of_kind("kubernetes.yaml", "Service")["spec"]["selector"]
    )
    assert of_kind("kubernetes.yaml", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
