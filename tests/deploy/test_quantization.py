"""Q/DQ pairs: where they stand, what they hold, and which layers go without."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.precision.calibration import Statistics, asymmetric_limits, observe, symmetric_limit
from deploy.precision.layer_choice import Quantiser, disturbance, numbers_to_leave
from deploy.precision.quantization import find_layers, quantise


def tiny_network() -> onnx.ModelProto:
    """Convolutions that share an input, a shortcut around them, and a linear layer."""
    rng = np.random.default_rng(0)
    tensors = {
        "w1": rng.normal(0, 0.5, (8, 3, 3, 3)), "b1": rng.normal(0, 1, 8), "w2": rng.normal(0, 0.2, (8, 8, 3, 3)),
        "w3": rng.normal(0, 0.2, (8, 8, 1, 1)), "fc": rng.normal(0, 1, (5, 8)), "b3": rng.normal(0, 1, 5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1] * 4),
        helper.make_node("Conv", ["r1", "w3"], ["c3"], "shortcut"),
        helper.make_node("Add", ["c2", "c3"], ["both"], "branches"),
        helper.make_node("Add", ["both", "r1"], ["sum"], "add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "fc", "b3"], ["logits"], "linear", transB=1),
        helper.make_node("MatMul", ["flat", "flat_turned"], ["gram"], "no_weights"),
        helper.make_node("Transpose", ["flat"], ["flat_turned"], "turn"),
    ]
    nodes[-2], nodes[-1] = nodes[-1], nodes[-2]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def feeds(count: int = 4) -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(n).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for n in range(count)]


def logits(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], feed)[0])


def quantised(style: str = "tensorrt", precision: str = "int8", without: tuple[str, ...] = ()) -> onnx.ModelProto:
    model = tiny_network()
    statistics = observe(model, [layer.inputs for layer in find_layers(model)], feeds())
    return quantise(model, statistics, without, precision, style)


def test_layers_are_those_with_weights() -> None:
    found = find_layers(tiny_network())
    assert [(layer.name, layer.inputs, layer.axis) for layer in found] == [
        ("conv1", "x", 0), ("conv2", "r1", 0), ("shortcut", "r1", 0), ("linear", "flat", 0)
    ]  # fmt: skip


@pytest.mark.parametrize("style", ["tensorrt", "cpu"])
def test_eight_bits_come_close(style: str) -> None:
    model = quantised(style)
    onnx.checker.check_model(model, full_check=True)
    wanted, found = logits(tiny_network(), feeds()[0]), logits(model, feeds()[0])
    assert 0 < abs(wanted - found).max() < 0.03 * abs(wanted).max()


def test_the_style_of_tensorrt_is_symmetric_with_biases_in_fp32() -> None:
    model = quantised()
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(pairs) == 3  # three inputs, one of them shared
    assert all(values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any() for node in pairs)
    nodes = {node.name: node for node in model.graph.node}
    assert nodes["conv1"].input[2] == "b1"
    assert values["b1"].dtype == np.float32
    assert list(nodes["add"].input) == ["both", "r1/dequantised"]  # the shortcut reads the copy that the layer reads


@pytest.mark.parametrize("style", ["tensorrt", "cpu"])
def test_weights_stand_in_the_file_in_eight_bits(style: str) -> None:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised(style).graph.initializer}
    assert values["w1/quantised"].dtype == np.int8
    assert values["w1/scale"].shape == (8,)  # for each output channel
    assert (abs(values["w1/quantised"].reshape(8, -1)).max(1) == 127).all()
    assert values["r1/zero"].dtype == (np.uint8 if style == "cpu" else np.int8)
    assert not {"w1", "w2", "w3", "fc"} & values.keys()  # nobody keeps a copy in fp32


def test_other_readers_of_weights_read_the_eight_bits() -> None:
    model = tiny_network()
    model.graph.node.extend([helper.make_node("Gather", ["fc", "rows"], ["own"], "own_class")])
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3]), "rows"))
    model.graph.output.append(helper.make_tensor_value_info("own", TensorProto.FLOAT, [2, 8]))
    statistics = observe(model, [layer.inputs for layer in find_layers(model)], feeds())
    result = quantise(model, statistics)
    assert "fc" not in {tensor.name for tensor in result.graph.initializer}
    session = onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}["fc"][[1, 3]]
    (found,) = session.run(["own"], feeds(1)[0])
    assert abs(found - wanted).max() <= abs(wanted).max() / 127
    assert "fc" in {tensor.name for tensor in quantise(model, statistics, ("linear",)).graph.initializer}


def test_fp8_is_written_with_one_scale_for_each_tensor() -> None:
    model = quantised(precision="fp8")
    kinds = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in model.graph.initializer}
    assert kinds["x/zero"] == (TensorProto.FLOAT8E4M3FN, [])
    assert kinds["w1/quantised"] == (TensorProto.FLOAT8E4M3FN, [8, 3, 3, 3])
    assert kinds["w1/scale"] == (TensorProto.FLOAT, [])
    onnx.checker.check_model(model, full_check=True)


def test_layers_may_be_left_out() -> None:
    nodes = {node.name: node for node in quantised(without=("conv1", "linear")).graph.node}
    assert nodes["conv1"].input[:2] == ["x", "w1"]
    assert nodes["conv2"].input[0] == "r1/dequantised"


def test_ranges_clip_outliers_where_that_costs_less() -> None:
    rng = np.random.default_rng(0)
    even = rng.uniform(-1, 1, 20_000).astype(np.float32)
    assert symmetric_limit(Statistics(-1, 1, even)) == pytest.approx(1, abs=0.03)
    heavy = np.append(rng.normal(0, 1, 20_000), 30).astype(np.float32)
    assert 3 < symmetric_limit(Statistics(float(heavy.min()), 30, heavy)) < 30
    low, high = asymmetric_limits(Statistics(0, 6, abs(even) * 6))
    assert low == 0
    assert high == pytest.approx(6, abs=0.2)


def test_watching_sees_the_extremes() -> None:
    seen = observe(tiny_network(), ["x", "r1"], feeds(2))
    values = np.concatenate([feed["x"].ravel() for feed in feeds(2)])
    assert (seen["x"].low, seen["x"].high) == (values.min(), values.max())
    assert seen["r1"].low == 0


def test_the_most_sensitive_layers_are_left_out_until_the_gate_holds() -> None:
    quantiser = Quantiser(tiny_network(), feeds(), "int8", "tensorrt")
    judged: list[int] = []

    def judge(model: onnx.ModelProto) -> int:
        judged.append(sum(node.op_type == "DequantizeLinear" for node in model.graph.node))
        return judged[-1]

    _, choice, result = quantiser.choose(judge, lambda pairs: pairs < 7)
    assert judged[0] == 7  # three inputs, one of them shared, and four weights
    assert judged[1] in (5, 6)  # a layer left out takes its own along, but for an input that it shares
    assert choice.left == (choice.ranking[0].layer,)
    assert len(choice.ranking) == 4
    order = [each.disturbance for each in choice.ranking]
    assert order == sorted(order, reverse=True)
    assert order[0] > 0
    assert judged[2] == judged[1] + 1  # its weights in eight bits
    assert choice.weights_only == (judged[2] < 7)
    assert result == judged[-1]


@pytest.mark.parametrize("allowed", [True, False])
def test_of_layers_left_out_the_weights_may_be_small(allowed: bool) -> None:
    """The model that is kept is the last one that was judged, whose file is there."""
    quantiser, judged = Quantiser(tiny_network(), feeds(), "int8", "tensorrt"), []

    def judge(model: onnx.ModelProto) -> tuple[int, int]:
        judged.append(model)
        return sum(node.op_type == "QuantizeLinear" for node in model.graph.node), len(stored_in_fp32(model))

    inputs = judge(quantiser.without(()))[0]
    kept, choice, _ = quantiser.choose(judge, lambda found: found[0] < inputs and (allowed or found[1] > 0))
    assert choice.left
    assert choice.weights_only == allowed
    assert kept is judged[-1] or kept.SerializeToString() == judged[-1].SerializeToString()
    assert bool(stored_in_fp32(kept)) != allowed


def stored_in_fp32(model: onnx.ModelProto) -> list[str]:
    """Weights that the file holds as floats."""
    return [layer.weights for layer in find_layers(model)]


def test_at_most_half_of_the_layers_are_left_out() -> None:
    assert numbers_to_leave(20) == [1, 2, 4, 8, 10]
    assert numbers_to_leave(1) == []


def test_disturbance_of_detections() -> None:
    wanted = {
        "boxes": np.array([[[0, 0, 10, 10], [20, 20, 40, 40]]], np.float32), "scores": np.array([[0.75, 0.25]]),
        "labels": np.array([[0, 1]]),
    }  # fmt: skip
    assert disturbance(wanted, wanted) == 0
    assert disturbance(wanted, {**wanted, "scores": np.array([[0.75, 0.0]])}) == pytest.approx(0.25)
    assert disturbance(wanted, {**wanted, "labels": np.array([[1, 1]])}) == pytest.approx(0.75)
    assert disturbance(wanted, {**wanted, "scores": np.zeros((1, 2))}) == 1
