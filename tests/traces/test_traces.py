"""Traces: recorded, kept, and measured."""

from pathlib import Path

import numpy as np
import pytest

import fewbits
from fewbits.errors import FewbitsError
from fewbits.machines import networks
from fewbits.machines.workload import Workload, linear
from fewbits.traces import CODECS, Trace, load, matched, measure
from fewbits.traces.measuring import packed_bytes

RNG = np.random.default_rng(3)


def small() -> Trace:
    weights = {"a": RNG.laplace(0, 5, (64, 32)).astype(np.int8), "b": np.ones((8, 64), np.int8)}
    inputs = {"a": [RNG.poisson(2, (4, 32)).astype(np.uint8) for _ in range(5)]}
    return Trace(weights, inputs, Workload("net", (linear("a", 4, 32, 64), linear("b", 4, 64, 8))))


def test_a_trace_comes_back(tmp_path: Path) -> None:
    trace = small()
    trace.save(tmp_path / "t.safetensors")
    found = load(tmp_path / "t.safetensors")
    assert found.workload == trace.workload
    assert found.weights.keys() == trace.weights.keys()
    for name, array in trace.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
    for one, other in zip(found.inputs["a"], trace.inputs["a"], strict=True):
        np.testing.assert_array_equal(one, other)


LINEAR = '{"name": "x", "operations": [{"name": "a", "kind": "linear"%s}]}'


@pytest.mark.parametrize(
    "about",
    [
        "{",
        "[1]",
        '{"operations": [{}]}',
        '{"name": "x", "operations": 7}',
        LINEAR % "",
        LINEAR % ', "rows": -1, "in": 2, "out": 3',
        LINEAR % ', "rows": "1", "in": 2, "out": 3',
    ],
)
def test_a_damaged_workload_is_refused(tmp_path: Path, about: str) -> None:
    tensors = {"a.weight": np.ones((2, 2), np.int8)}
    fewbits.save(tensors, tmp_path / "t.safetensors", metadata={"fewbits_trace": about})
    with pytest.raises(fewbits.CorruptError, match="workload of this trace is damaged"):
        load(tmp_path / "t.safetensors")


def test_ten_samples_keep_their_order(tmp_path: Path) -> None:
    samples = [np.full((1, 2), index, np.uint8) for index in range(11)]
    Trace({}, {"x.y": samples}).save(tmp_path / "t.safetensors")
    assert [int(array[0, 0]) for array in load(tmp_path / "t.safetensors").inputs["x.y"]] == list(
        range(11)
    )


@pytest.mark.parametrize("codec", CODECS)
def test_shares_count_what_packing_takes(codec: str) -> None:
    trace = small()
    found = measure(trace, codec)
    sizes = {name: packed_bytes(array, codec) for name, array in trace.weights.items()}
    for name, array in trace.weights.items():
        assert found.weights_by_name[name] == pytest.approx(sizes[name] / array.nbytes)
    total = sum(array.nbytes for array in trace.weights.values())
    assert found.weights == pytest.approx(sum(sizes.values()) / total)
    assert found.origin == "measured"


def test_activations_are_packed_with_tables_from_other_samples() -> None:
    trace = small()
    profile = fewbits.profile(trace.inputs["a"][:2], fewbits.Lossless())
    packed = sum(len(fewbits.pack(array, profile)) for array in trace.inputs["a"][2:])
    found = measure(trace, "fewbits", profiled=2)
    assert found.inputs_by_name["a"] == pytest.approx(packed / (3 * 128))


def test_layers_are_matched_in_order_where_names_differ() -> None:
    net = networks.load("alexnet")
    sizes = [op.weights for op in net.operations if op.weights]
    trace = Trace({f"layer{i}": np.zeros(n, np.int8) for i, n in enumerate(sizes[:3])}, {})
    found = matched(measure(trace, "fewbits"), trace, net)
    assert list(found.weights_by_name) == list(net.names[:3])
    other = Trace({"layer": np.zeros((7, 7), np.int8)}, {})
    with pytest.raises(FewbitsError, match="49 weights has no place in alexnet"):
        matched(measure(other, "fewbits"), other, net)


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    floats = Trace({"a": np.zeros((4, 4), np.float32)}, {})
    with pytest.raises(FewbitsError, match="rle packs values of 8 bits, not float32"):
        measure(floats, "rle")
    with pytest.raises(FewbitsError, match="did you mean 'apack'"):
        measure(floats, "apac")
    fewbits.save({"bias": np.zeros(4, np.float32)}, tmp_path / "b.safetensors")
    with pytest.raises(FewbitsError, match="no weights and no activations"):
        load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("name", "expected"), [("resnet18", 0.8295), ("mobilenet_v3_large", 0.6543)]
)
def test_the_paper_s_codec_on_real_weights(name: str, expected: float) -> None:
    path = Path(__file__).parents[2] / ".." / "shared" / "data" / f"{name}-int8.safetensors"
    if not path.exists():
        pytest.skip("../shared/data is not here")
    assert measure(load(path), "apack").weights == pytest.approx(expected, abs=2e-4)
