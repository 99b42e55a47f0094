"""Small models of every kind, and the gradients that a packed and an exact step give."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fewbits.training import pack_activations

torch.set_num_threads(1)


class Residual(nn.Module):
    """Convolutions, batch norms, ReLU in place and not, a pool, dropout, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.norm(self.stem(x))))
        x = F.relu(x + self.body(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """A transformer's block with fused attention."""

    def __init__(self, width: int = 32, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Vision(nn.Module):
    """A vision transformer of two blocks."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, stride=4)
        self.blocks = nn.Sequential(Block(dropout=dropout), Block(dropout=dropout))
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


class Recurrent(nn.Module):
    """An embedding, a GRU or LSTM, and a head tied to the embedding."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.cell = kind(16, 16, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.cell(self.embed(tokens))[0] @ self.embed.weight.t()


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def labels(count: int = 6) -> torch.Tensor:
    return torch.arange(count) % 10


def classify(model: nn.Module) -> Callable[[], torch.Tensor]:
    """The loss of a classifier of images, with the same batch every time."""
    x, y = images(), labels()
    return lambda: F.cross_entropy(model(x), y)


def gradients(
    model: nn.Module, loss: Callable[[], torch.Tensor], policy: Any = None, **settings: Any
) -> dict[str, torch.Tensor]:
    """Every parameter's gradient of one step, packed if there is a policy."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(11)
    if policy is None:
        value = loss()
    else:
        with pack_activations(policy, **{"min_bytes": 1} | settings):
            value = loss()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Are two sets of gradients equal to the bit?"""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def cosine(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Of all gradients as one vector."""
    one, other = (torch.cat([g.flatten().double() for g in x.values()]) for x in (a, b))
    return float(F.cosine_similarity(one, other, dim=0))
