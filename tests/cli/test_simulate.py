"""``fewbits simulate``: machines, sweeps, tables and pictures from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import fewbits

from .conftest import Run, tensors

RESNET = ("simulate", "tensorcore", "--network", "resnet50")


def test_packing_is_compared_with_none(run: Run) -> None:
    found = run(*RESNET, "--weights", "0.6", "--activations", "0.48")
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0] == "resnet50 on tensor-core accelerator"
    assert lines[2].startswith("plain   1.28 ms  9.06 mJ  47.3 MB")
    assert lines[3].startswith("packed  1.12 ms   7.8 mJ  25.8 MB") and "1.14x" in lines[3]
    assert lines[4].startswith("packed: packing and unpacking bind 34 % of the time")


def test_machines_and_networks_are_listed(run: Run) -> None:
    assert {"gpu", "tensorcore"} <= set(run("simulate").out.split())
    lines = run("simulate", "--list-networks").out.splitlines()
    assert len(lines) == 32 and lines[1].startswith("alexnet")
    assert next(line for line in lines if line.startswith("q8bert")).split()[1] == "11,174.2"


def test_every_constant_is_listed(run: Run) -> None:
    lines = run(*RESNET, "--explain", "--set", "engines=128").out.splitlines()
    engines = next(line for line in lines if line.startswith("engines "))
    assert engines.split()[1:3] == ["128", "given"]
    assert any("APack, Table III" in line for line in lines)
    assert any(line.startswith("weight_traffic  ") for line in lines)
    found = json.loads(run(*RESNET, "--explain", "--json").out)
    assert {"name", "value", "unit", "kind", "source"} == set(found["constants"][0])


def test_json_holds_every_layer(run: Run) -> None:
    found = json.loads(run(*RESNET, "--json").out)["results"]
    assert list(found) == ["plain", "packed"]
    layers = found["packed"]["layers"]
    assert len(layers) == 54
    assert sum(row["latency_s"] for row in layers) == pytest.approx(found["packed"]["latency_s"])
    assert found["packed"]["speedup"] == pytest.approx(
        found["plain"]["latency_s"] / found["packed"]["latency_s"]
    )


def test_sweeps_are_tables(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "sweep.csv"
    swept = run(*RESNET, "--sweep", "engines=16..256*2", "--sweep", "weight_traffic=0.4..1/50",
                "-o", out)  # fmt: skip
    lines = out.read_text().splitlines()
    assert len(lines) == 1 + 5 * 50 * 2
    assert lines[0].startswith("engines,weight_traffic,variant,latency_s,energy_j,traffic_bytes")
    assert swept.out.splitlines()[-1] == "... 460 more rows"
    found = json.loads(run(*RESNET, "--sweep", "engines=64,128", "--json").out)
    assert found["engines"] == [64, 64, 128, 128]
    assert found["speedup"][1] < found["speedup"][3]


def test_layers_are_a_table(run: Run, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "layers.parquet"
    shown = run(*RESNET, "--layers", "-o", out).out
    assert "layer1.0.conv1" in shown
    table = pq.read_table(out).to_pydict()
    assert len(table["layer"]) == 2 * 54 and set(table["variant"]) == {"plain", "packed"}


@pytest.mark.parametrize("more", [(), ("--sweep", "engines=16..64*2")])
@pytest.mark.parametrize("machine", ["tensorcore", "gpu"])
def test_pictures_are_drawn(run: Run, tmp_path: Path, machine: str, more: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    if machine == "gpu" and more:
        more = ("--sweep", "weight_traffic=0.25..1/5")
    out = tmp_path / "picture.png"
    assert run("simulate", machine, "--network", "alexnet", *more, "--figure", out).code == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_gpu_waits_for_its_memory_or_its_unpacker(run: Run) -> None:
    decode = ("simulate", "gpu", "--device", "h100", "--network", "llama-3-8b", "--mode", "decode")
    found = json.loads(run(*decode, "--json").out)["results"]
    assert found["plain"]["bound"] == "memory" and found["packed"]["bound"] == "engine"
    assert found["packed"]["speedup"] < 1
    fast = json.loads(run(*decode, "--set", "unpack_values_per_s=1e13", "--json").out)["results"]
    assert fast["packed"]["bound"] == "memory" and fast["packed"]["speedup"] > 1.4


def test_configs_are_workloads(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4,
                                "vocab_size": 100}))  # fmt: skip
    found = run("simulate", "gpu", "--config", path, "--mode", "training", "--tokens", "32")
    assert found.out.startswith("tiny on NVIDIA A100")


def test_functions_give_modules(run: Run, fails: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))\n"
        "def number():\n    return 7\n"
    )
    model = ("simulate", "tensorcore", "--model", f"{path}:build", "--input")
    found = json.loads(run(*model, "1x3x16x16", "--batch", "4", "--json").out)["results"]["plain"]
    assert found["workload"] == "net"
    assert found["traffic_weights_bytes"] == 8 * 27 + 32
    assert found["traffic_inputs_bytes"] == 4 * (3 * 256 + 8 * 196)
    assert "cannot run on shapes alone" in fails(*model, "1x5x16x16")
    wrong = ("simulate", "tensorcore", "--model", f"{path}:number", "--input", "1x3")
    assert "AttributeError" in fails(*wrong)


def test_weights_of_a_file_are_measured(run: Run, tmp_path: Path) -> None:
    layer = {"fc.weight": tensors()["quantized"]}
    fewbits.save(layer, tmp_path / "w.safetensors")
    error = run("simulate", "tensorcore", "--trace", tmp_path / "w.safetensors").err
    assert "holds no workload; name it with --network" in error


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ((*RESNET[:3], "resnet5O"), "did you mean 'resnet50'", 1),
        ((*RESNET, "--weights", "0"), "weight_traffic: 0 must be at least", 1),
        ((*RESNET, "--activations", "-1"), "activation_traffic: -1 must be at least", 1),
        ((*RESNET, "--set", "engins=4"), "did you mean 'engines'", 1),
        ((*RESNET, "--set", "engines"), "expected NAME=NUMBER", 2),
        ((*RESNET, "--sweep", "engines=9..1"), "the first value must be below", 1),
        ((*RESNET, "--sweep", "engines=0..9"), "engines: 0 must be at least 1", 1),
        ((*RESNET, "--sweep", "engines"), "is no sweep", 1),
        ((*RESNET, "--dram", "ddr4-320"), "did you mean 'ddr4-3200'", 1),
        ((*RESNET, "--figure", "out.gif"), "must end in", 2),
        ((*RESNET, "-o", "out.xlsx"), ".csv or .parquet", 2),
        ((*RESNET, "--sweep", "engines=1,2", "--layers"), "--layers is for one setting", 2),
        ((*RESNET, "--sweep", "engines=1,2", "--sweep", "engines=3"), "a constant twice", 2),
        ((*RESNET, "-o", "nowhere/out.csv"), "No such file", 1),
        ((*RESNET, "--tokens", "8"), "is no transformer", 1),
        ((*RESNET, "--trace", "absent.safetensors"), "absent.safetensors: No such file", 1),
        (("simulate", "tensorcore"), "give one of --network, --config, --onnx and", 2),
        ((*RESNET, "--config", "c.json"), "give one of", 2),
        (("simulate", "gpu", "--config", "absent.json"), "absent.json: No such file", 1),
        (("simulate", "gpu", "--device", "h10", "--network", "alexnet"), "did you mean 'h100'", 1),
        ((*RESNET, "--input", "1x3"), "--input is for --model", 2),
        (("simulate", "gpu", "--model", "net.py:build"), "--model needs --input", 2),
        (("simulate", "gpu", "--model", "net.py", "--input", "1x3"), "FILE.py:FUNCTION", 2),
        (("simulate", "gpu", "--model", "no.py:f", "--input", "1x3"), "no.py: No such file", 1),
        (("simulate", "tensorkore"), "No such command", 2),
    ],
)
def test_wrong_requests_are_one_line(
    fails: Callable[..., str], arguments: tuple[str, ...], message: str, code: int
) -> None:
    if any(".py" in argument for argument in arguments):
        pytest.importorskip("torch")
    assert message in fails(*arguments, code=code)
