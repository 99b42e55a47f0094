"""Transformers by name or from a ``config.json``, as Atleus's command takes them."""

from pathlib import Path

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines import networks
from fewbits.machines.transformers import Transformer, read_config

#: The paper's networks that the package has no shapes of, and two small ones; from their configs.
_CONFIGS = {
    "bert_base": {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12,
                  "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30522,
                  "max_position_embeddings": 512},
    "roberta_base": {"model_type": "roberta", "hidden_size": 768, "num_hidden_layers": 12,
                     "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 50265,
                     "max_position_embeddings": 514},
    # BLOOM has GPT-2's shapes; positions come as biases on the scores (ALiBi), so none are limited.
    "bloom_560m": {"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16,
                   "vocab_size": 250880},
    "gpt2": {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12,
             "vocab_size": 50257, "n_positions": 1024},
    "minilm": {"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6,
               "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 30522,
               "max_position_embeddings": 512},
}  # fmt: skip


def names() -> tuple[str, ...]:
    """What `find` knows by name."""
    found = set(_CONFIGS)
    for name in networks.names():
        try:
            networks.config(name)
        except FewbitsError:
            continue
        found.add(name)
    return tuple(sorted(found))


def find(source: str) -> tuple[str, Transformer]:
    """Name and fields of a transformer, from its name or the path of a ``config.json``.

    Raises:
        FewbitsError: There is none, or it has no static text layers to map.
    """
    key = source.lower().replace("-", "_").replace(".", "_")
    if key in _CONFIGS:
        return key, read_config(_CONFIGS[key])
    path = Path(source)
    if path.suffix == ".json" or path.is_dir():
        path = path / "config.json" if path.is_dir() else path
        try:
            return path.parent.name or path.stem, read_config(path)
        except OSError as error:
            raise FewbitsError(f"{path}: {error.strerror or error}") from None
    if key not in names():
        hint = did_you_mean(key, names())
        raise FewbitsError(
            f"no transformer is called {source!r}{hint}; known: {', '.join(names())}, "
            "or the path of a config.json"
        )
    return key, networks.config(key)
