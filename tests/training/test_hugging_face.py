"""Models of Hugging Face Transformers, made small from their configurations, as they are."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from fewbits.training import check, pack_activations  # noqa: E402
from training.models import cosine, gradients, same  # noqa: E402

torch.set_num_threads(1)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
IDS = torch.randint(1, 99, (3, 17), generator=torch.Generator().manual_seed(0))
PADDED = torch.ones_like(IDS).index_fill(1, torch.tensor([15, 16]), 0)
TEXT = {"input_ids": IDS, "labels": IDS, "attention_mask": PADDED}
IMAGES = {
    "pixel_values": torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
    "labels": torch.tensor([0, 1, 1]),
}


def bert(attention):
    config = transformers.BertConfig(**SMALL, intermediate_size=64, attn_implementation=attention)
    return transformers.BertForMaskedLM(config), TEXT


def gpt2(attention):
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=99, attn_implementation=attention
    )
    return transformers.GPT2LMHeadModel(config), TEXT


def llama(attention):
    config = transformers.LlamaConfig(
        **SMALL, intermediate_size=64, num_key_value_heads=2, attn_implementation=attention
    )
    return transformers.LlamaForCausalLM(config), TEXT


def vit(attention):
    config = transformers.ViTConfig(
        **SMALL, intermediate_size=64, image_size=16, patch_size=4, attn_implementation=attention
    )
    return transformers.ViTForImageClassification(config), IMAGES


def resnet(attention):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    return transformers.ResNetForImageClassification(config), IMAGES


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("make", [bert, gpt2, llama, vit, resnet], ids=lambda make: make.__name__)
def test_a_training_step(make, attention):
    if make is resnet and attention == "eager":
        return
    torch.manual_seed(0)
    model, batch = make(attention)
    model.train()

    def loss():
        return model(**batch).loss

    exact = gradients(model, loss)
    assert same(gradients(model, loss, "lossless"), exact)
    assert cosine(gradients(model, loss, "int8"), exact) > 0.998
    assert cosine(gradients(model, loss, "int4"), exact) > 0.94


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
def test_gradient_checkpointing():
    torch.manual_seed(0)
    model, batch = llama("sdpa")
    model.train()
    exact = gradients(model, lambda: model(**batch).loss)
    model.gradient_checkpointing_enable()
    assert same(gradients(model, lambda: model(**batch).loss, "lossless"), exact)
    with pack_activations("int4", min_bytes=1) as packed:
        model(**batch)
    blocks = [row for row in packed.report().rows if row.op == "checkpoint"]
    assert {row.codec_name for row in blocks} >= {"int4"}


def test_reports_and_checks_read_well():
    torch.manual_seed(0)
    model, batch = bert("sdpa")
    found = check(model, batch, "int4")
    assert found.cosine > 0.97
    ops = {row.op for row in found.report.rows}
    assert "unknown" not in ops
    assert {"linear", "gelu", "layer_norm", "scaled_dot_product_attention"} <= ops
    modules = {row.module for row in found.report.rows}
    assert "bert.encoder.layer.0.intermediate.dense" in modules
    inputs = [row.op for row in found.report.rows if "caller" in row.note]
    assert "embedding" in inputs
