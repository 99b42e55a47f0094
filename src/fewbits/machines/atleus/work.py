"""What one layer asks of the systolic tier and of memory, forward and backward, for one sequence.

Forward: scores and context of attention, softmax, two norms, and what is trained beside frozen
weights. Backward, attention counts its scores again (as fused attention does, so that no
probabilities are kept), then the gradients of both products; an adapter counts twice its forward
products. With all weights trained, the systolic tier has their gradients as well.

With causal attention a block of as many rows as the array has meets only the columns up to its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines.atleus.mapping import Matrix, matrices
from fewbits.machines.parts.systolic import Gemm
from fewbits.machines.transformers import Transformer

Tuning = Literal["lora", "adapter", "full"]
TUNINGS: tuple[Tuning, ...] = ("lora", "adapter", "full")
#: float32 words to and from memory for a trained parameter: it and two moments, read and written.
OPTIMIZER_WORDS = 6


@dataclass(frozen=True)
class Trained:
    """What is trained: ``rank`` and ``targets`` of LoRA, the width of adapters, or everything."""

    tuning: Tuning
    rank: int
    targets: tuple[Matrix, ...]

    def __post_init__(self) -> None:
        if self.tuning not in TUNINGS:
            hint = did_you_mean(self.tuning, TUNINGS)
            raise FewbitsError(
                f"no tuning is called {self.tuning!r}{hint}; known: {', '.join(TUNINGS)}"
            )
        if self.tuning != "full" and self.rank < 1:
            raise FewbitsError(f"rank {self.rank} is not 1 or more")
        if self.tuning == "lora" and not self.targets:
            raise FewbitsError("LoRA needs a matrix to adapt, such as query")

    def pairs(self, net: Transformer) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each adapter of a layer, through ``rank`` in between."""
        if self.tuning == "lora":
            return tuple((matrix.k, matrix.n) for matrix in self.targets)
        # Houlsby et al., 2019: one behind attention, one behind the feed-forward part
        return ((net.hidden, net.hidden),) * 2 if self.tuning == "adapter" else ()

    def parameters(self, net: Transformer) -> int:
        """Trained parameters of a layer."""
        if self.tuning == "full":
            return sum(matrix.weights for matrix in matrices(net))
        return self.rank * sum(k + n for k, n in self.pairs(net))


def static_macs(net: Transformer, tokens: int) -> int:
    """Products with frozen weights, one layer forward."""
    return tokens * sum(matrix.weights for matrix in matrices(net))


def attention(net: Transformer, tokens: int, seen: int, rows: int) -> Iterator[Gemm]:
    """Scores, then context, of a layer; ``seen`` keys for the last of ``tokens`` queries."""
    if not net.causal or tokens == 1:
        yield Gemm(tokens, net.head, seen, net.heads)
        yield Gemm(tokens, seen, net.head, net.heads)
        return
    for start in range(0, tokens, rows):
        here = min(rows, tokens - start)
        columns = seen - tokens + start + here
        yield Gemm(here, net.head, columns, net.heads)
        yield Gemm(here, columns, net.head, net.heads)


def attention_backward(net: Transformer, tokens: int, rows: int) -> Iterator[Gemm]:
    """Scores again; gradients of context's two operands, then of the scores' two."""
    products = attention(net, tokens, tokens, rows)
    for scores, context in zip(products, products, strict=True):
        m, k, n = scores.m, scores.k, scores.n
        yield scores  # again
        yield scores  # gradient of the probabilities
        yield context  # of the queries
        yield Gemm(n, m, k, net.heads)  # of the values
        yield Gemm(n, m, k, net.heads)  # of the keys


def adapters(net: Transformer, trained: Trained | None, tokens: int) -> Iterator[Gemm]:
    """Down to the rank and up again, forward."""
    for k, n in trained.pairs(net) if trained else ():
        yield Gemm(tokens, k, trained.rank)  # type: ignore[union-attr]
        yield Gemm(tokens, trained.rank, n)  # type: ignore[union-attr]


def adapters_backward(net: Transformer, trained: Trained, tokens: int) -> Iterator[Gemm]:
    """Gradients of an adapter's input and of its two matrices."""
    for k, n in trained.pairs(net):
        yield Gemm(tokens, n, trained.rank)
        yield Gemm(tokens, trained.rank, k)
        yield Gemm(trained.rank, tokens, n)
        yield Gemm(k, tokens, trained.rank)
    if trained.tuning == "full":
        for matrix in matrices(net):
            yield Gemm(matrix.k, tokens, matrix.n)


def softmax_elements(net: Transformer, tokens: int, seen: int) -> int:
    """Scores that pass the softmax of a layer."""
    if not net.causal:
        return net.heads * tokens * seen
    return net.heads * (tokens * (2 * seen - tokens + 1) // 2)


def norm_elements(net: Transformer, tokens: int) -> int:
    """Elements that pass the two norms of a layer."""
    return 2 * tokens * net.hidden


def saved_elements(net: Transformer, trained: Trained, tokens: int) -> int:
    """Activations that a layer keeps for its backward pass, none of them attention's scores.

    Inputs of both norms and of softmax (queries, keys, values), the context with one number a row
    of scores, what enters the activation (twice where it is gated), and the inputs of what is
    trained: of all matrices, or the adapters' waist.
    """
    kv = net.kv_heads * net.head
    inner = net.inner * (2 if net.gated else 1)
    kept = 2 * net.hidden + net.attention + 2 * kv + net.attention + net.heads + inner
    if trained.tuning == "full":
        kept += 2 * net.hidden + net.inner
    else:
        pairs = trained.pairs(net)
        kept += trained.rank * len(pairs) + (net.hidden if pairs else 0)
    return tokens * kept


def macs(gemms: Sequence[Gemm]) -> int:
    """Products of all."""
    return sum(gemm.macs for gemm in gemms)


def share_on_reram(net: Transformer, tokens: int, lora_macs: int) -> float:
    """Share of the forward products that are with frozen weights.

    Causal attention counts half of all pairs, as the reader's summary of the paper's Figure 7 only
    comes out with; ``lora_macs`` a layer are those of the adapters.
    """
    static = static_macs(net, tokens)
    pairs = tokens * tokens // 2 if net.causal else tokens * tokens
    dynamic = 2 * pairs * net.attention
    return static / (static + dynamic + lora_macs)
