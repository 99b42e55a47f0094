"""Traces of running models."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from fewbits.cli.main import main  # noqa: E402
from fewbits.errors import FewbitsError  # noqa: E402
from fewbits.traces import load, record  # noqa: E402

MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))

def batches():
    for _ in range(20):
        yield (torch.randn(2, 3, 8, 8),)

def broken():
    raise KeyError("weights")
"""


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def test_layers_are_sampled_under_their_names() -> None:
    net = model()
    batches = [torch.randint(0, 50, (2, 6)) for _ in range(12)]
    trace = record(net, iter(batches), name="toy")
    assert set(trace.weights) == {"0", "1", "3"}
    assert set(trace.inputs) == {"1", "3"}  # indices are no activations
    assert [len(samples) for samples in trace.inputs.values()] == [9, 9]
    with torch.no_grad():
        expected = net[0](batches[4])
    np.testing.assert_array_equal(trace.inputs["1"][4], expected.numpy())
    assert trace.workload is not None and trace.workload.names == ("0", "1", "3")
    assert trace.workload.operations[1].batch == 2
    assert not net[1]._forward_pre_hooks


def test_eight_bits_keep_zero_and_the_extremes() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))
    x = torch.tensor([[0.0, 1.0, 2.0, -3.0]])
    trace = record(net, [x, 2 * x], int8=True)
    first, second = trace.inputs["1"]
    assert first.dtype == np.uint8 and first.tolist() == [[0, 64, 127, 0]]
    assert second.tolist() == [[0, 127, 255, 0]]
    assert np.abs(trace.weights["1"]).max() == 127
    shifted = record(nn.Linear(2, 1), [torch.tensor([[-1.0, 2.0]])], int8=True)
    assert shifted.inputs[""][0].tolist() == [[0, 255]]


def test_training_mode_is_put_back() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()).train()
    net[1].eval()
    record(net, [{"input": torch.ones(1, 2)}])
    assert [part.training for part in net] == [True, False, True] and net.training


def test_models_that_give_nothing() -> None:
    with pytest.raises(FewbitsError, match="at least one batch"):
        record(nn.Linear(2, 2), [])
    with pytest.raises(FewbitsError, match="no layer with weights"):
        record(nn.ReLU(), [torch.ones(1, 2)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    np.save(tmp_path / "x.npy", RNG.normal(size=(12, 3, 8, 8)).astype(np.float32))
    return tmp_path


RNG = np.random.default_rng(0)


def test_the_command_records_what_simulate_measures(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "t.safetensors"
    code = main(["trace", f"{folder}/model.py:build", "--data", f"{folder}/x.npy", "--int8",
                 "-o", str(out)])  # fmt: skip
    assert code == 0
    assert "weights of 2 layers, 18 samples of inputs" in capsys.readouterr().out
    assert len(load(out).inputs["0"]) == 9
    codecs = "shapeshifter,rle, rlez,apack"
    main(["simulate", "tensorcore", "--trace", str(out), "--codec", codecs, "--json"])
    found = json.loads(capsys.readouterr().out)["results"]
    assert list(found) == ["plain", "shapeshifter", "rle", "rlez", "apack"]
    assert found["apack"]["extra"]["engine_area_mm2"] == pytest.approx(1.14)
    assert found["shapeshifter"]["extra"]["traffic_origin"] == "measured"
    assert [row["layer"] for row in found["plain"]["layers"]] == ["0", "3"]


@pytest.mark.parametrize(
    ("place", "data", "message"),
    [
        ("model.py:broken", "x.npy", "KeyError: 'weights'"),
        ("model.py:absent", "x.npy", "has no function 'absent'"),
        ("absent.py:build", "x.npy", "No such file"),
        ("model.py:build", "absent.npy", "No such file"),
        ("model.py:build", "model.py", "not a .npy or .npz file"),
        ("model.py:build", "model.py:build", "AttributeError"),
    ],
)
def test_wrong_requests_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], place: str, data: str, message: str
) -> None:
    code = main(["trace", f"{folder}/{place}", "--data", f"{folder}/{data}",
                 "-o", str(folder / "t.safetensors")])  # fmt: skip
    error = capsys.readouterr().err
    assert code == 1 and message in error and error.count("\n") == 1
    assert "bug in Fewbits" not in error and not (folder / "t.safetensors").exists()


def test_a_place_without_a_function_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "model.py", "--data", "x.npy"]) == 2
    assert "expected FILE.py:FUNCTION" in capsys.readouterr().err


def test_a_function_gives_batches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["trace", f"{folder}/model.py:build", "--data", f"{folder}/model.py:batches",
                 "--samples", "3", "-o", str(folder / "t.safetensors"), "--json"])  # fmt: skip
    assert code == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 6
