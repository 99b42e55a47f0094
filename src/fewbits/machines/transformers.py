"""Workloads of transformers, from the fields of a Hugging Face ``config.json``.

>>> config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100}
>>> prefill = of_config(config, tokens=16)
>>> decode = of_config(config, mode="decode", context=16)
>>> prefill.weight_bytes > decode.weight_bytes, prefill.macs // decode.macs
(True, 15)

Attention counts every pair of tokens, as PyTorch's plain products do, even where a mask hides half.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines.workload import (
    Convolution,
    Operation,
    Workload,
    convolution,
    embedding,
    linear,
    product,
)

Mode = Literal["prefill", "decode", "training"]
MODES: tuple[Mode, ...] = ("prefill", "decode", "training")

# Fields under the names they have in each family; the first that is there counts.
_FIELDS = {
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "head": ("head_dim",),
    "inner": ("intermediate_size", "n_inner"),
    "vocabulary": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "n_ctx"),
    **{name: (name,) for name in ("image_size", "patch_size", "num_channels")},
}
_IMAGE = {"image_size": 224, "patch_size": 16, "num_channels": 3}
_ENCODERS = ("bert", "roberta", "distilbert", "electra")
_GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3")
_FAMILIES = (*_ENCODERS, *_GATED, "gpt2", "vit")


@dataclass(frozen=True)
class Transformer:
    """What the fields say, whatever the family calls them."""

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    vocabulary: int
    positions: int
    gated: bool
    fused: bool  # one product for query, key and value
    causal: bool
    image: tuple[int, int, int] | None = None  # side, side of a patch, channels

    @property
    def attention(self) -> int:
        """Elements of all heads' queries for one token."""
        return self.heads * self.head


def read_config(source: Mapping[str, Any] | str | Path) -> Transformer:
    """A config's fields, or those of a ``config.json``; ``FewbitsError`` where they do not fit."""
    fields = source if isinstance(source, Mapping) else _read(Path(source))
    family = str(fields.get("model_type", ""))
    if family not in _FAMILIES:
        hint = did_you_mean(family, _FAMILIES)
        raise FewbitsError(
            f"model_type {family!r} is not known{hint}; known: {', '.join(_FAMILIES)}"
        )
    hidden, heads = _number(fields, "hidden"), _number(fields, "heads")
    if hidden % heads and "head_dim" not in fields:
        raise FewbitsError(f"hidden size {hidden} does not divide into {heads} heads")
    kv_heads = _number(fields, "kv_heads", heads)
    if heads % kv_heads:
        raise FewbitsError(f"{heads} heads do not divide into {kv_heads} key-value heads")
    image = None
    if family == "vit":
        image = tuple(_number(fields, key, default) for key, default in _IMAGE.items())
        if image[0] % image[1]:
            raise FewbitsError(f"an image of {image[0]} does not divide into patches of {image[1]}")
    return Transformer(
        family,
        _number(fields, "layers"),
        hidden,
        heads,
        kv_heads,
        _number(fields, "head", hidden // heads),
        _number(fields, "inner", 4 * hidden),
        _number(fields, "vocabulary", 0),
        _number(fields, "positions", 1 << 30),
        gated=family in _GATED,
        fused=family in ("gpt2", "phi3"),
        causal=family in ("gpt2", *_GATED),
        image=cast(tuple[int, int, int] | None, image),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FewbitsError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise FewbitsError(f"{path}: a config is an object with fields")
    return found


def _number(fields: Mapping[str, Any], what: str, default: int | None = None) -> int:
    for name in _FIELDS[what]:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise FewbitsError(f"{name}: {value!r} is not a number of at least 1")
        return value
    if default is None:
        raise FewbitsError(f"the config lacks {' or '.join(_FIELDS[what])}")
    return default


def of_config(
    config: Mapping[str, Any] | str | Path | Transformer,
    *,
    mode: Mode = "prefill",
    tokens: int = 128,
    context: int | None = None,
    batch: int = 1,
    name: str = "",
) -> Workload:
    """The operations of a transformer.

    ``prefill`` runs ``tokens`` tokens at once, ``training`` adds their backward pass, ``decode``
    runs one token with ``context`` earlier ones (default ``tokens``) in the cache, which counts
    as the input of the products it takes part in. Images have as many tokens as patches, and one.

    Raises:
        FewbitsError: Fields that are missing or do not fit, or more tokens than positions.
    """
    net = config if isinstance(config, Transformer) else read_config(config)
    if mode not in MODES:
        raise FewbitsError(f"unknown mode {mode!r}: {', '.join(MODES)}")
    if net.image is not None:
        tokens = (net.image[0] // net.image[1]) ** 2 + 1
    earlier = 0
    if mode == "decode":
        if not net.causal:
            raise FewbitsError(f"a {net.family} does not decode token by token")
        earlier, tokens = tokens if context is None else context, 1
    if tokens < 1 or earlier < 0:
        raise FewbitsError("a transformer needs at least one token")
    if tokens + earlier > net.positions and net.image is None:
        raise FewbitsError(
            f"{tokens + earlier} tokens, but the network has {net.positions} positions"
        )
    operations = tuple(_operations(net, tokens, earlier + tokens))
    workload = Workload(name or net.family, operations)
    workload = workload.with_batch(batch) if batch != 1 else workload
    return workload.training() if mode == "training" else workload


def _operations(net: Transformer, tokens: int, seen: int) -> Iterator[Operation]:
    if net.image is not None:
        side, patch, channels = net.image
        out = (side // patch, side // patch)
        window = Convolution(
            channels, net.hidden, (side, side), out, (patch, patch), (patch, patch)
        )
        yield convolution("embeddings.patches", window, trained_before=False)
    else:
        yield embedding("embeddings.words", tokens, net.vocabulary, net.hidden)
        if net.family in (*_ENCODERS, "gpt2"):
            rows = max(net.positions if net.positions < 1 << 30 else tokens, tokens)
            yield embedding("embeddings.positions", tokens, rows, net.hidden)
    for index in range(net.layers):
        yield from _layer(net, f"layer.{index}", tokens, seen)
    if net.causal:
        # Only the last token's logits are wanted, but training and PyTorch's forward have them all.
        yield linear("head", tokens, net.hidden, net.vocabulary)
    elif net.family in ("bert", "roberta"):
        yield linear("pooler", 1, net.hidden, net.hidden)


def _layer(net: Transformer, name: str, tokens: int, seen: int) -> Iterator[Operation]:
    """One layer. ``saved`` is what autograd keeps without dropout, with norms, softmax and
    activations that are one operation each (GPT-2's own GELU is several, and keeps more).
    """
    hidden, attention, kv = net.hidden, net.attention, net.kv_heads * net.head
    into = tokens * hidden
    if net.fused:
        fused = linear(f"{name}.attention.qkv", tokens, hidden, attention + 2 * kv)
        yield replace(fused, saved=2 * into)  # the norm's input, and the product's
    else:
        query = linear(f"{name}.attention.query", tokens, hidden, attention)
        yield replace(query, saved=2 * into)
        for part in ("key", "value"):
            yield replace(linear(f"{name}.attention.{part}", tokens, hidden, kv), saved=0)
    # Heads that share a key are rows of one product, so that the cache is read once.
    shared = net.heads // net.kv_heads
    rows = shared * tokens
    scores = product(f"{name}.attention.scores", net.kv_heads, rows, seen, net.head)
    yield replace(scores, saved=scores.inputs + scores.outputs)  # softmax keeps its result
    mixed = product(f"{name}.attention.context", net.kv_heads, rows, net.head, seen)
    yield replace(mixed, saved=net.kv_heads * seen * net.head)
    yield linear(f"{name}.attention.output", tokens, attention, hidden)
    if net.gated:
        yield replace(linear(f"{name}.mlp.gate", tokens, hidden, net.inner),
                      saved=2 * into + 2 * tokens * net.inner)  # fmt: skip
        yield replace(linear(f"{name}.mlp.up", tokens, hidden, net.inner), saved=tokens * net.inner)
    else:
        yield replace(linear(f"{name}.mlp.up", tokens, hidden, net.inner),
                      saved=2 * into + tokens * net.inner)  # fmt: skip
    yield linear(f"{name}.mlp.down", tokens, net.inner, hidden)
