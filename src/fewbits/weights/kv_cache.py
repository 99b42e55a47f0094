"""A Transformers cache whose keys and values rest packed.

The newest tokens stay plain; in runs of ``chunk`` tokens older ones are packed. A step unpacks the
layer that it is at, and drops it again: memory is that of the packed cache and of one layer.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.names import codec as codec_named


class PackedCache(Cache):
    """Keys and values of past tokens, packed: ``model.generate(..., past_key_values=cache)``.

    ``codec``: by name or as it is. "lossless" keeps every bit, and with it every logit; "int8" and
    "int4" quantize groups of elements (add "+lossless" to pack the codes as well). ``chunk``:
    tokens that are packed together, once twice as many are there.

    Layers are all of the growing kind, also in models with sliding windows, whose masks leave out
    what is beyond the window.

    Raises:
        ValueError: An unknown codec, or a chunk below 1.
    """

    def __init__(self, codec: str | Codec = "lossless", *, chunk: int = 128) -> None:
        if chunk < 1:
            raise ValueError(f"a chunk is at least one token, not {chunk}")
        self.codec = codec_named(codec) if isinstance(codec, str) else codec
        self.chunk = chunk
        super().__init__(layer_class_to_replicate=partial(PackedLayer, self.codec, chunk))

    @property
    def nbytes(self) -> int:
        """Bytes that the cache takes: packed chunks, and the newest tokens."""
        return sum(layer.nbytes for layer in self.layers)

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that it would take unpacked."""
        return sum(layer.unpacked_bytes for layer in self.layers)


@dataclass
class _Chunk:
    """A run of tokens of all heads, packed; of the batch as it was then these ``rows``."""

    codec: Codec
    parts: Parts
    spec: TensorSpec
    rows: torch.Tensor | None = None

    @classmethod
    def of(cls, codec: Codec, states: torch.Tensor) -> "_Chunk":
        states = states.contiguous()
        return cls(codec, codec.encode(states), TensorSpec.of(states))

    def states(self) -> torch.Tensor:
        found = self.codec.decode(self.parts, self.spec)
        return found if self.rows is None else found.index_select(0, self.rows)

    def choose(self, rows: torch.Tensor) -> None:
        """Take these rows of the batch from here on; nothing is rounded a second time."""
        rows = rows.to(self.parts[0].device)
        self.rows = rows if self.rows is None else self.rows[rows]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def tokens(self) -> int:
        return self.spec.shape[-2]


class PackedLayer(DynamicLayer):
    """One layer of a `PackedCache`; ``keys`` and ``values`` are those of the newest tokens."""

    is_croppable = True

    def __init__(self, codec: Codec, chunk: int) -> None:
        super().__init__()
        self.keys: Any
        self.values: Any
        self._codec, self._chunk = codec, chunk
        self._packed: list[tuple[_Chunk, _Chunk]] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the states of new tokens; all keys and values, of which the older were unpacked."""
        super().update(key_states, value_states)
        keys, values = self._all()
        while self.keys.shape[-2] >= 2 * self._chunk:
            old = (self.keys[..., : self._chunk, :], self.values[..., : self._chunk, :])
            self._packed.append((_Chunk.of(self._codec, old[0]), _Chunk.of(self._codec, old[1])))
            self.keys = self.keys[..., self._chunk :, :].clone()
            self.values = self.values[..., self._chunk :, :].clone()
        return keys, values

    def _all(self) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._packed:
            return self.keys, self.values
        keys = [chunk.states() for chunk, _ in self._packed]
        values = [chunk.states() for _, chunk in self._packed]
        return torch.cat([*keys, self.keys], dim=-2), torch.cat([*values, self.values], dim=-2)

    @property
    def nbytes(self) -> int:
        """Bytes that the layer takes."""
        recent = self.keys.nbytes + self.values.nbytes if self.is_initialized else 0
        return recent + sum(key.nbytes + value.nbytes for key, value in self._packed)

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that it would take unpacked."""
        recent = self.keys.nbytes + self.values.nbytes if self.is_initialized else 0
        return recent + sum(k.spec.nbytes + v.spec.nbytes for k, v in self._packed)

    def get_seq_length(self) -> int:
        """Tokens in the cache, packed or not."""
        packed = sum(key.tokens for key, _ in self._packed)
        return packed + (self.keys.shape[-2] if self.is_initialized and self.keys.numel() else 0)

    def reset(self) -> None:
        """Forget all tokens."""
        self._packed = []
        super().reset()

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the newest ``-tokens_to_remove`` tokens, as ``DynamicLayer.crop`` does."""
        left = -tokens_to_remove
        while self._packed and tokens_to_remove < 0 and left > self.keys.shape[-2]:
            key, value = self._packed.pop()
            self.keys = torch.cat([key.states(), self.keys], dim=-2)
            self.values = torch.cat([value.states(), self.values], dim=-2)
        super().crop(tokens_to_remove)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take other rows of the batch, for beam search."""
        super().reorder_cache(beam_idx)
        self._choose(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only these rows of the batch."""
        super().batch_select_indices(indices)
        self._choose(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the batch."""
        rows = torch.arange(self.keys.shape[0]).repeat_interleave(repeats)
        super().batch_repeat_interleave(repeats)
        self._choose(rows)

    def _choose(self, rows: torch.Tensor) -> None:
        for chunks in self._packed:
            for chunk in chunks:
                chunk.choose(rows)
