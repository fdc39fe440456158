"""What a graph must keep to before it may be written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backbones.errors import InputError
from deploy.graph_check import check_graph
from deploy.graphs import MOST_SORTED, capped
from detection.settings import OutputSettings, ProposalSettings, default_settings

FREE = {"x": {0: None}}


def model(
    operator: str, dimensions: list[object], inputs: tuple[str, ...] = ("x",), batch: object = "n"
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, dimensions)
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [batch])
    count = numpy_helper.from_array(np.array([MOST_SORTED + 1]), "too_many")
    node = helper.make_node(operator, list(inputs), ["y"])
    return helper.make_model(helper.make_graph([node], "g", [x], [y], [count]))


def test_operators_are_counted() -> None:
    assert check_graph(model("Relu", ["n", 3]), FREE, "portable")["Relu"] == 1


@pytest.mark.parametrize("operator", ["NonZero", "If", "Loop", "NonMaxSuppression", "RoiAlign", "BatchNormalization"])
def test_only_known_operators_pass(operator: str) -> None:
    with pytest.raises(InputError, match=f"flavour portable does not allow: {operator}"):
        check_graph(model(operator, ["n", 3]), FREE, "portable")


def test_the_flavour_ops_allows_its_own_operators_only() -> None:
    check_graph(model("RoiAlign", ["n", 3]), FREE, "ops")
    with pytest.raises(InputError, match="NonZero"):
        check_graph(model("NonZero", ["n", 3]), FREE, "ops")


def test_fixed_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="fixed dimension 0 in its input x"):
        check_graph(model("Relu", [2, 3]), FREE, "portable")
    with pytest.raises(InputError, match="fixed batch in its output y"):
        check_graph(model("Relu", ["n", 3], batch=2), FREE, "portable")


def test_selections_keep_to_what_tensorrt_sorts() -> None:
    with pytest.raises(InputError, match="selects 3841 values at once; TensorRT takes 3840"):
        check_graph(model("TopK", ["n", 3], ("x", "too_many")), FREE, "portable")
    with pytest.raises(InputError, match="not fixed"):
        check_graph(model("TopK", ["n", 3], ("x", "x")), FREE, "portable")


def test_every_selection_of_a_detector_is_capped() -> None:
    settings = default_settings("resnet101", ("a",), "c4", output=OutputSettings(candidates=5000))
    exported = capped(settings)
    assert exported.test_proposals == ProposalSettings(3840, 1000)  # the paper's 6000 cannot be sorted
    assert exported.output.candidates == 3840
    assert capped(settings, proposals=300).test_proposals.after_nms == 300
    with pytest.raises(InputError, match="takes 1 to 3840"):
        capped(settings, proposals=4000)
