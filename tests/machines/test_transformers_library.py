"""Config fields and the models that Hugging Face builds of them: the same products."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from fewbits.machines.modules import of_module  # noqa: E402
from fewbits.machines.transformers import of_config  # noqa: E402

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", {**SMALL, "intermediate_size": 96, "vocab_size": 99}, {}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel",
             {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 99}, {}),
    "llama": ("LlamaConfig", "LlamaForCausalLM",
              {**SMALL, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 99}, {}),
    "vit": ("ViTConfig", "ViTModel", {**SMALL, "intermediate_size": 96, "image_size": 64},
            {"add_pooling_layer": False}),
}  # fmt: skip


@pytest.mark.parametrize("family", CASES)
def test_products_are_those_of_the_library(family: str) -> None:
    config_name, model_name, fields, more = CASES[family]
    config = getattr(transformers, config_name)(**fields)
    with torch.device("meta"):
        model = getattr(transformers, model_name)(config, **more)
        x = torch.empty(1, 3, 64, 64) if family == "vit" else torch.zeros(1, 64, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(x)
    net = of_config(config.to_dict(), tokens=64)
    assert net.macs == counter.get_total_flops() // 2 == of_module(model, x).macs
    static = sum(op.weights for op in net.operations if op.kind != "embedding")
    named = model.named_parameters()
    matrices = sum(p.numel() for name, p in named if p.dim() > 1 and "embed" not in name)
    # GPT-2's head is its table of words, and ViT's patches are called embeddings.
    if family in ("bert", "llama"):
        assert static == matrices
    # The others' norms, positions or activations are several operations each, which keep more.
    if family in ("bert", "vit"):
        plain = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
        with torch.device("meta"):
            without = getattr(transformers, model_name)(type(config)(**fields, **plain), **more)
        assert net.saved_bytes == pytest.approx(of_module(without, x).saved_bytes, rel=0.05)
