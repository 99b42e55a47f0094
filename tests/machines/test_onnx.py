"""Workloads of ONNX models."""

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

import numpy as np  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fewbits.errors import FewbitsError  # noqa: E402
from fewbits.machines import networks  # noqa: E402
from fewbits.machines.onnx import of_onnx  # noqa: E402


def saved(path: Path, nodes: list, weights: dict[str, tuple[int, ...]], shape: list) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(s, np.float32), name) for name, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    return path


def test_convolutions_and_products(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["a"], "/first/Conv", strides=[2, 2],
                         pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "d"], ["e"], "depthwise", group=8),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], "head", transB=1),
    ]  # fmt: skip
    weights = {"c": (8, 3, 3, 3), "d": (8, 1, 3, 3), "g": (10, 8 * 2 * 2)}
    path = saved(tmp_path / "net.onnx", nodes, weights, ["batch", 3, 8, 8])
    net = of_onnx(path)
    assert net.names == ("first.Conv", "depthwise", "head")
    assert [op.macs for op in net.operations] == [16 * 8 * 27, 4 * 8 * 9, 32 * 10]
    assert [op.weights for op in net.operations] == [216, 72, 320]
    assert [op.needs_input_gradient for op in net.operations] == [False, True, True]
    assert of_onnx(path, batch=5).macs == 5 * net.macs


def test_attention_is_dynamic_and_open_sizes_are_asked_for(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"], "query"),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["k"], "key"),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["y"], "scores"),
    ]
    path = saved(tmp_path / "net.onnx", nodes, {"w": (16, 16)}, ["batch", "tokens", 16])
    with pytest.raises(FewbitsError, match="size tokens is open"):
        of_onnx(path)
    net = of_onnx(path, tokens=7)
    assert [(op.kind, op.macs) for op in net.operations] == [
        ("linear", 7 * 256), ("linear", 7 * 256), ("product", 7 * 7 * 16),
    ]  # fmt: skip


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FewbitsError, match="No such file"):
        of_onnx(tmp_path / "absent.onnx")
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    with pytest.raises(FewbitsError, match="not an ONNX model"):
        of_onnx(path)
    path = saved(tmp_path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, [1, 4])
    with pytest.raises(FewbitsError, match="multiplies nothing"):
        of_onnx(path)


@pytest.mark.parametrize(
    ("file", "network"), [("resnet50", "resnet50"), ("bvlc_alexnet", "alexnet_eyeriss")]
)
def test_models_that_come_with_onnx_are_the_networks_of_their_names(
    file: str, network: str
) -> None:
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    found, expected = of_onnx(path / f"light_{file}.onnx"), networks.load(network)
    assert found.weight_bytes == expected.weight_bytes
    if file == "resnet50":
        assert sorted(op.macs for op in found.operations) == sorted(
            op.macs for op in expected.operations
        )
