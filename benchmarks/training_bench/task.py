"""What a training task is, and the loop that trains it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Batch = tuple[torch.Tensor, ...]
Context = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Size:
    """How large a model and its batch are; what the numbers mean is the task's affair."""

    batch: int
    width: int
    depth: int


class Blocks(nn.Module):
    """Modules one after another, which forget what they saved and compute it again if asked to."""

    def __init__(self, *blocks: nn.Module, recompute: bool) -> None:
        super().__init__()
        self.blocks, self.recompute = nn.ModuleList(blocks), recompute

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return x


class Task(ABC):
    """A model, its data, and how well it did. The data is the same for every seed."""

    name: ClassVar[str]
    #: "accuracy" in percent, or "loss" in nats a character
    metric: ClassVar[str]
    #: What is trained: 20 to 60 s on one core.
    small: ClassVar[Size]
    #: What is timed: a step of more than 100 ms on one core.
    large: ClassVar[Size]
    steps: ClassVar[int]
    rate: ClassVar[float]

    @abstractmethod
    def model(self, size: Size, *, recompute: bool = False) -> nn.Module:
        """A new model; with ``recompute`` its blocks run under `torch.utils.checkpoint`."""

    @abstractmethod
    def batch(self, size: Size, generator: torch.Generator) -> Batch:
        """A batch to train on, in new memory."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """What is minimized."""

    @abstractmethod
    def score(self, model: nn.Module) -> float:
        """The metric on data that was not trained on; the model is in evaluation mode."""

    def train(
        self,
        seed: int,
        context: Context = nullcontext,
        *,
        steps: int | None = None,
        backward: Callable[[torch.Tensor, nn.Module], None] = lambda loss, model: loss.backward(),
        watch: Callable[[], None] = lambda: None,
    ) -> tuple[float, list[float]]:
        """Train; the metric in the end, and the loss of each step.

        ``context`` makes what each forward pass runs in; ``watch`` is called after each step.
        """
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model, steps = self.model(self.small), steps or self.steps
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
        history = []
        for _ in range(steps):
            batch = self.batch(self.small, generator)
            with context():
                loss = self.loss(model, batch)
            backward(loss, model)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            history.append(loss.item())
            watch()
        model.eval()
        with torch.no_grad():
            return self.score(model), history


def warm_then_cosine(steps: int) -> Callable[[int], float]:
    """The learning rate over a run: up for a tenth of it, then half a cosine down."""
    warm = max(steps // 10, 1)
    return lambda step: min((step + 1) / warm, (1 + math.cos(math.pi * step / steps)) / 2)


def accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Percent of the rows whose largest score is at the label."""
    return 100 * float((scores.argmax(1) == labels).double().mean())
