"""LoRA by the PEFT library trains on a packed base with the very losses of the plain one."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
peft = pytest.importorskip("peft", reason="peft is not installed")

import fewbits  # noqa: E402
from fewbits import weights  # noqa: E402


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_size=128,
        intermediate_size=192,
    )
    return transformers.LlamaForCausalLM(config)


def trained(model, activations=None, checkpointing=False):
    """Losses of a few steps, and the model with its adapters."""
    torch.manual_seed(3)
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], lora_dropout=0.1)
    model = peft.get_peft_model(model, lora).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, 1e-2)
    losses = []
    for step in range(3):
        ids = torch.randint(300, (2, 12))
        if activations:
            with fewbits.training.pack_activations(activations, step=step):
                loss = model(input_ids=ids, labels=ids).loss
        else:
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize(
    "how",
    [{}, {"activations": "int8"}, {"checkpointing": True}],
    ids=["plain", "packed activations", "checkpointing"],
)
def test_losses_are_identical(base, how):
    expected, plain = trained(copy.deepcopy(base), **how)
    packed = weights.attach(copy.deepcopy(base))
    found, model = trained(packed, **how)
    assert found == expected and expected[0] != expected[-1]
    adapters = zip(model.named_parameters(), plain.named_parameters(), strict=True)
    assert all(torch.equal(a, b) for (name, a), (_, b) in adapters if "lora" in name)
    assert weights.report(packed).packed_bytes > 0


def test_merging_needs_a_plain_base(base):
    _, model = trained(weights.attach(copy.deepcopy(base)))
    with pytest.raises(fewbits.FewbitsError, match="packed and cannot be changed in place"):
        model.merge_and_unload()
    weights.detach(model)
    merged = model.merge_and_unload()
    assert not weights.report(merged).rows


def test_a_quantized_base_trains(base):
    losses, _ = trained(weights.attach(copy.deepcopy(base), quantize="int8"))
    expected, _ = trained(copy.deepcopy(base))
    assert losses == pytest.approx(expected, abs=0.05) and losses != expected
