"""A language model of characters, on the documentation strings of Python's standard library."""

import ast
import functools
import sysconfig
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from training_bench.task import Batch, Blocks, Size, Task
from training_bench.transformer import Block

CONTEXT = 64
KNOWN = "\n" + "".join(map(chr, range(32, 127)))


def documentation(file: Path) -> str:
    """All documentation strings of a module, in order."""
    tree = ast.parse(file.read_text("utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(text for text in found if text)


@functools.cache
def text() -> tuple[torch.Tensor, torch.Tensor]:
    """Characters as numbers: those to train on, and those of every tenth module to test on."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted([*library.glob("*.py"), *library.glob("[a-z]*/*.py")])
    files = [file for file in files if not {"site-packages", "test"} & set(file.parts)]
    documents = [document for file in files if (document := documentation(file))]
    parts = ("\n\n".join(d for i, d in enumerate(documents) if (i % 10 == 5) == test)
             for test in (False, True))  # fmt: skip
    train, test = (torch.tensor([max(KNOWN.find(c), 0) for c in part]) for part in parts)
    return train, test


class LanguageModel(nn.Module):
    """Characters in, scores of the next ones out; embedding and output layer are the same."""

    def __init__(self, size: Size, recompute: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(KNOWN), size.width)
        nn.init.normal_(self.embed.weight, std=size.width**-0.5)
        self.place = nn.Parameter(torch.randn(CONTEXT, size.width) * 0.02)
        blocks = [Block(size.width, causal=True) for _ in range(size.depth)]
        self.blocks = Blocks(*blocks, recompute=recompute)
        self.norm = nn.LayerNorm(size.width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids) + self.place[: ids.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.embed.weight)


class Text(Task):
    name, metric = "lm", "loss"
    small = Size(batch=32, width=64, depth=3)
    large = Size(batch=32, width=192, depth=4)
    steps, rate = 500, 1e-2

    def model(self, size: Size, *, recompute: bool = False) -> nn.Module:
        return LanguageModel(size, recompute)

    def batch(self, size: Size, generator: torch.Generator) -> Batch:
        train, _ = text()
        starts = torch.randint(len(train) - CONTEXT, (size.batch, 1), generator=generator)
        windows = train[starts + torch.arange(CONTEXT + 1)]
        return windows[:, :-1].clone(), windows[:, 1:].clone()

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    def score(self, model: nn.Module) -> float:
        _, test = text()
        windows = test[: (min(len(test), 60_000) - 1) // CONTEXT * CONTEXT + 1]
        inputs, wanted = windows[:-1].view(-1, CONTEXT), windows[1:].view(-1, CONTEXT)
        losses = [float(self.loss(model, part)) * len(part[0])
                  for part in zip(inputs.split(64), wanted.split(64), strict=True)]  # fmt: skip
        return sum(losses) / len(inputs)
