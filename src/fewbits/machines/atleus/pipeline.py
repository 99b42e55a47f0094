"""The pipeline inside a layer: closed forms, and the recurrence they are held against.

Tokens pass four stages: query, key and value (ReRAM), attention with all that is dynamic
(systolic), the two layers of the feed-forward part (ReRAM); the output projection works beside the
first, on crossbars of its own. A stage takes one token at a time and passes it on, so that

    finish(token, stage) = max(finish(token - 1, stage), finish(token, stage - 1)) + service

With causal attention, token t needs only what came before it: everything streams, and its attention
takes as long as t + 1 rows. With bidirectional attention no token can attend before the last one's
keys are there: a barrier between the first stage and the second.

A batch keeps all layers busy, each on crossbars of its own; the systolic arrays serve them in turn.
`batch_s` and `batch_events_s` are the same pair for that, with whole sequences for tokens; they
agree within 2 % from six layers on, within 5 % below.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stages:
    """Seconds of one layer's stages for ``tokens`` tokens.

    ``before``: the stage ahead of attention, a token. ``attention``: the whole sequence.
    ``after``: each stage behind it, a token. ``fill``: what every token passes once more (the
    crossbars' own pipeline, hops of the network).
    """

    tokens: int
    before: float
    attention: float
    after: tuple[float, ...]
    fill: float
    causal: bool

    def services(self) -> NDArray[np.float64]:
        """Seconds of each token in each stage: (tokens, stages)."""
        weights = np.arange(1.0, self.tokens + 1) if self.causal else np.ones(self.tokens)
        attention = self.attention * weights / weights.sum()
        columns = [np.full(self.tokens, self.before), attention]
        columns += [np.full(self.tokens, service) for service in self.after]
        return np.stack(columns, 1)


def layer_s(stages: Stages) -> float:
    """Seconds of a layer by closed form, whoever is the bottleneck.

    The last token is done after the longest chain through the recurrence. With attention that
    grows, that is k tokens in a constant stage and the others in attention, where they cross.
    """
    n, slowest = stages.tokens, max(stages.after, default=0.0)
    rest = sum(stages.after)
    if not stages.causal:
        attention = stages.attention / n
        tail = attention + rest + (n - 1) * max(attention, slowest)
        return stages.fill + n * stages.before + tail
    step = 2 * stages.attention / (n * (n + 1))  # attention of the first token
    # Ahead of attention k tokens at `before`, then all others attend, then the last goes through.
    first = max(_chain(n, stages.before, step), stages.before + stages.attention)
    streamed = n * max(stages.before, slowest) + stages.before + rest
    through = first + rest
    return stages.fill + max(through, streamed - max(stages.before, slowest) + step)


def _chain(n: int, before: float, step: float) -> float:
    """max over k of: k tokens at ``before``, then tokens k to n in attention, step·t each."""
    best = min(max(before / step, 1.0), float(n)) if step > 0 else float(n)
    return max(
        k * before + step * (n * (n + 1) - (k - 1) * k) / 2
        for k in (int(best), min(int(best) + 1, n), n)
    )


def layer_events_s(stages: Stages) -> float:
    """The same by the recurrence, token by token."""
    services = stages.services()
    done = np.zeros(services.shape[1])
    first = np.cumsum(services[:, 0])
    for token, service in enumerate(services):
        arrives = first[token] if stages.causal else first[-1]
        for stage in range(1, len(done)):
            arrives = done[stage] = max(done[stage], arrives) + service[stage]
    return stages.fill + float(done[-1])


def batch_s(batch: int, layers: int, layer: float, crossbars: float, shared: float) -> float:
    """Seconds of a batch of sequences that follow each other through the layers.

    A sequence passes a layer in ``layer`` seconds, and the next one follows as soon as what both
    need is free: that layer's ``crossbars``, or ``shared``, what it needs of arrays or network that
    all layers share. Where sequences under way need more than all of these they never rest, but for
    the ramps at both ends: with k sequences under way they are busy for k · shared / layer.
    """
    pace = max(crossbars, shared)
    followed = layers * layer + (batch - 1) * pace
    under_way = min(batch, layers * layer / pace if pace else batch)
    if shared * under_way <= layer:
        return followed
    enough = layer / shared  # sequences under way that keep what is shared busy
    rest = sum(pace * (1 - k / enough) for k in range(1, math.ceil(enough)))
    return max(followed, batch * layers * shared + 2 * rest)


def batch_events_s(
    batch: int, layers: int, crossbars: float, systolic: float, *, causal: bool
) -> float:
    """The same event by event: who comes first is served first.

    In each layer a sequence needs that layer's crossbars and, meanwhile, the shared arrays; with
    bidirectional attention first the crossbars ahead of attention, then the others.
    """
    stages = layers * (1 if causal else 2)
    free = [0.0] * stages
    arrays = 0.0
    queue = [(0.0, sequence, 0) for sequence in range(batch)]
    last = 0.0
    while queue:
        arrives, sequence, stage = heapq.heappop(queue)
        start = max(arrives, free[stage])
        if start > arrives:  # back in the queue until then: others may need the arrays before
            heapq.heappush(queue, (start, sequence, stage))
            continue
        done = start + crossbars
        if causal or stage % 2:
            arrays = max(arrays, start) + systolic
            done = max(done, arrays)
        free[stage] = last = done
        if stage + 1 < stages:
            heapq.heappush(queue, (done, sequence, stage + 1))
    return max([last, *free])


def balance(seconds: Sequence[float]) -> float:
    """Mean over the longest: 1 where all stages take as long."""
    longest = max(seconds, default=0.0)
    return float(np.mean(seconds)) / longest if longest else 1.0
