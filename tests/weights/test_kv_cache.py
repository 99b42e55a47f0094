"""A packed cache of keys and values: lossless it changes no token, and it is smaller."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from fewbits import weights  # noqa: E402
from fewbits.lossy.codec import TensorSpec  # noqa: E402

SETTINGS = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_size=64,
        intermediate_size=96,
    )
    return transformers.LlamaForCausalLM(config).eval()


IDS = torch.arange(80).view(2, 40) * 7 % 300


def test_lossless_generates_the_same_tokens_and_logits(model):
    expected = model.generate(IDS, **SETTINGS)
    cache = weights.PackedCache(chunk=8)
    assert torch.equal(model.generate(IDS, past_key_values=cache, **SETTINGS), expected)
    assert cache.get_seq_length() == 59
    assert cache.unpacked_bytes == 2 * 2 * 2 * 2 * 59 * 16 * 4
    assert cache.nbytes < cache.unpacked_bytes
    ids = IDS[:, :5]
    with torch.no_grad():
        plain = model(ids, past_key_values=transformers.DynamicCache()).logits
        assert torch.equal(model(ids, past_key_values=weights.PackedCache(chunk=2)).logits, plain)


def test_beams_are_followed(model):
    beams = SETTINGS | {"num_beams": 3}
    expected = model.generate(IDS, **beams)
    cache = weights.PackedCache(chunk=8)
    assert torch.equal(model.generate(IDS, past_key_values=cache, **beams), expected)


@pytest.mark.parametrize(
    ("codec", "share"), [("int8", 0.55), ("int4", 0.45), ("int4+lossless", 0.5)]
)
def test_quantized_states_are_within_the_codecs_error(codec, share):
    cache = weights.PackedCache(codec, chunk=16)
    keys, values = torch.randn(2, 1, 4, 64, 32).unbind(0)
    cache.update(keys, values, 0)
    found, same = cache.update(keys[..., :1, :], values[..., :1, :], 0)
    assert cache.nbytes < share * cache.unpacked_bytes
    assert found.shape == same.shape == (1, 4, 65, 32)
    for start in range(0, 48, 16):
        part = keys[..., start : start + 16, :]
        bound = cache.codec.allowed_error(part.contiguous()) if codec != "int4+lossless" else 1.0
        assert bool(((found[..., start : start + 16, :] - part).abs() <= bound).all())
    assert torch.equal(found[..., 49:64, :], keys[..., 49:64, :])  # the newest stay plain


def test_rows_of_the_batch_crop_and_reset():
    keys, values = torch.randn(2, 3, 2, 40, 8).unbind(0)
    plain, packed = transformers.DynamicCache(), weights.PackedCache(chunk=4)
    for cache in (plain, packed):
        cache.update(keys, values, 0)
        cache.reorder_cache(torch.tensor([2, 0, 0]))
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([0, 3, 5]))
        cache.crop(-15)
    assert packed.get_seq_length() == plain.get_seq_length() == 25
    more = torch.randn(3, 2, 1, 8)
    expected = plain.update(more, more, 0)
    assert all(
        torch.equal(a, b) for a, b in zip(packed.update(more, more, 0), expected, strict=True)
    )
    packed.reset()
    assert packed.get_seq_length() == 0 and packed.nbytes == 0


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="a chunk is at least one token, not 0"):
        weights.PackedCache(chunk=0)
    with pytest.raises(ValueError, match="int9"):
        weights.PackedCache("int9")
    assert TensorSpec((1,), torch.float32).nbytes == 4
