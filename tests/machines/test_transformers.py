"""Transformers from config fields."""

import json
from pathlib import Path

import pytest

from fewbits.errors import FewbitsError
from fewbits.machines import networks
from fewbits.machines.transformers import of_config, read_config

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 100,
    "max_position_embeddings": 512,
}  # fmt: skip


def test_a_layer_by_hand() -> None:
    net = of_config(LLAMA, tokens=10)
    macs = {op.name: op.macs for op in net.operations if op.name.startswith("layer.0")}
    # hidden 64, 8 heads of 8, keys and values 2 * 8 = 16 wide, 96 inside, 10 tokens
    assert macs == {
        "layer.0.attention.query": 10 * 64 * 64,
        "layer.0.attention.key": 10 * 64 * 16,
        "layer.0.attention.value": 10 * 64 * 16,
        "layer.0.attention.scores": 8 * 10 * 10 * 8,
        "layer.0.attention.context": 8 * 10 * 10 * 8,
        "layer.0.attention.output": 10 * 64 * 64,
        "layer.0.mlp.gate": 10 * 64 * 96,
        "layer.0.mlp.up": 10 * 64 * 96,
        "layer.0.mlp.down": 10 * 64 * 96,
    }


def test_decoding_reads_the_cache_once_for_each_key_head() -> None:
    net = of_config(LLAMA, mode="decode", context=99, batch=3)
    scores = next(op for op in net.operations if op.name == "layer.1.attention.scores")
    assert scores.inputs == 3 * (8 * 8 + 2 * 8 * 100)  # queries, and keys of 100 tokens
    assert scores.macs == 3 * 8 * 8 * 100


def test_a_token_at_a_time_multiplies_as_much_as_all_at_once_but_for_the_mask() -> None:
    prefill = of_config(LLAMA, tokens=32)
    steps = [of_config(LLAMA, mode="decode", context=t) for t in range(32)]
    static = sum(op.macs for op in prefill.operations if op.static)
    assert static == sum(op.macs for step in steps for op in step.operations if op.static)
    pairs = sum(op.macs for op in prefill.operations if not op.static)
    causal = sum(op.macs for step in steps for op in step.operations if not op.static)
    assert causal / pairs == pytest.approx((32 + 1) / (2 * 32))


def test_training_is_three_times_forward() -> None:
    net = of_config(LLAMA, tokens=16, mode="training")
    assert net.macs == 3 * of_config(LLAMA, tokens=16).macs


@pytest.mark.parametrize(
    ("name", "millions"),
    # Parameters of matrices and tables, without norms and biases: 109.5, 335, 355, 8030 with them.
    [("q8bert", 109.3), ("bert-large", 334.7), ("gpt2-medium", 406.1), ("llama-3-8b", 8030.0)],
)
def test_parameters_are_those_of_the_model_cards(name: str, millions: float) -> None:
    # GPT-2 shares its first table with the last product; here both are counted.
    found = sum(op.stored or op.weights for op in networks.load(name).operations) / 1e6
    assert found == pytest.approx(millions, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"num_key_value_heads": 3}, "8 heads do not divide into 3"),
        ({"num_attention_heads": 7}, "64 does not divide into 7 heads"),
        ({"hidden_size": "64"}, "hidden_size: '64'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0"),
        ({"num_hidden_layers": None}, "lacks num_hidden_layers or n_layer"),
    ],
)
def test_wrong_fields(change: dict[str, object], message: str) -> None:
    with pytest.raises(FewbitsError, match=message):
        read_config(LLAMA | change)


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(FewbitsError, match="512 positions"):
        of_config(LLAMA, tokens=513)
    with pytest.raises(FewbitsError, match="unknown mode"):
        of_config(LLAMA, mode="train")  # type: ignore[arg-type]
    with pytest.raises(FewbitsError, match="does not decode"):
        networks.load("bert-large", mode="decode")
    with pytest.raises(FewbitsError, match="no transformer"):
        networks.load("resnet50", tokens=7)
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(FewbitsError, match="not JSON"):
        read_config(path)
    path.write_text(json.dumps(LLAMA))
    assert read_config(path) == read_config(LLAMA)
