"""Noise-aware adapters: a language model of characters, trained here, put on noisy crossbars.

The model is that of `training_bench.text`. Its frozen matrices are quantized crossbar by crossbar
and get the noise of their cells. Adapters of low rank stay in digital numbers and are trained with
the noise on:

* **chip**: one draw of the noise, as a chip has that was programmed once; the adapters learn on it
  and are tested on it. This is fine-tuning on the machine.
* **aware**: new noise in every step; tested on draws never seen.
* **blind**: trained without noise; tested on the same draws.

The ideal is the fine-tuned model in fp32 without noise, with as many steps. Accuracy is the share
of next characters that are right, on modules that were not trained on.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from training_bench.task import warm_then_cosine
from training_bench.text import CONTEXT, Text, text

from fewbits.lossy import CrossbarQuantize, TensorSpec
from fewbits.machines.atleus.mapping import mixed_bits
from fewbits.machines.parts.analog import Analog

RANK = 8
STEPS = 300
SEED = 5
BITS = "M8F4"


class Crossbars(nn.Module):
    """A linear layer whose weights stand in crossbars, and an adapter beside."""

    def __init__(self, linear: nn.Linear, bits: int, rank: int) -> None:
        super().__init__()
        self.bias = linear.bias
        codec = CrossbarQuantize(bits)
        weight = linear.weight.detach()
        spec, parts = TensorSpec.of(weight), codec.encode(weight)
        self.weight, self.exact = codec.decode(parts, spec), weight
        self.step = codec.spread(parts[1], weight.shape)
        self.sigma = Analog(weight_bits=bits, noise=1.0).weight_noise
        self.noise: torch.Tensor | None = None
        self.ideal = False
        outputs, inputs = weight.shape
        self.a = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def draw(self, cell_noise: float, generator: torch.Generator) -> None:
        """New noise for every cell."""
        drawn = torch.randn(self.weight.shape, generator=generator)
        self.noise = drawn * (self.sigma * cell_noise) * self.step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.exact if self.ideal else self.weight
        if self.noise is not None and not self.ideal:
            weight = weight + self.noise
        return F.linear(x, weight, self.bias) + F.linear(F.linear(x, self.a), self.b)


def on_crossbars(model: nn.Module) -> list[Crossbars]:
    """Replace the blocks' linear layers; everything else is frozen with them."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    attention, feedforward = mixed_bits(BITS)
    found = []
    for block in model.blocks.blocks:
        for name in ("qkv", "out", "up", "down"):
            bits = attention if name in ("qkv", "out") else feedforward
            made = Crossbars(getattr(block, name), bits, RANK)
            setattr(block, name, made)
            found.append(made)
    return found


def accuracy(model: nn.Module) -> float:
    """Percent of next characters that are right."""
    _, test = text()
    windows = test[: (min(len(test), 60_000) - 1) // CONTEXT * CONTEXT + 1]
    inputs, wanted = windows[:-1].view(-1, CONTEXT), windows[1:].view(-1, CONTEXT)
    model.eval()
    with torch.no_grad():
        pairs = zip(inputs.split(64), wanted.split(64), strict=True)
        right = sum(int((model(part).argmax(-1) == goal).sum()) for part, goal in pairs)
    model.train()
    return 100 * right / wanted.numel()


def tune(
    task: Text, model: nn.Module, layers: list[Crossbars], noise: float, way: str, steps: int
) -> None:
    """Train adapters from zero in one of the ways."""
    generator = torch.Generator().manual_seed(SEED)
    cells = torch.Generator().manual_seed(1)
    for layer in layers:
        nn.init.normal_(layer.a, std=layer.a.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(layer.b)
        layer.noise, layer.ideal = None, way == "ideal"
        if way == "chip":
            layer.draw(noise, cells)
    trained = [p for layer in layers for p in (layer.a, layer.b)]
    optimizer = torch.optim.AdamW(trained, lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(steps))
    for _ in range(steps):
        if way == "aware":
            for layer in layers:
                layer.draw(noise, cells)
        task.loss(model, task.batch(task.small, generator)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def tested(model: nn.Module, layers: list[Crossbars], noise: float, way: str) -> float:
    """Accuracy on the chip it was trained on, or the mean over three chips never seen."""
    if way in ("chip", "ideal"):
        return accuracy(model)
    found = []
    for seed in (101, 102, 103):
        cells = torch.Generator().manual_seed(seed)
        for layer in layers:
            layer.draw(noise, cells)
        found.append(accuracy(model))
    return sum(found) / len(found)


def study(steps: int | None) -> dict[str, Any]:
    """Accuracy of the base, of the ideal, and for each noise without and with adapters."""
    task = Text()
    torch.manual_seed(SEED)
    model = task.model(task.small)
    generator = torch.Generator().manual_seed(SEED)
    count = steps or task.steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_cosine(count))
    for _ in range(count):
        task.loss(model, task.batch(task.small, generator)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    rows: dict[str, float] = {"trained, fp32": accuracy(model)}
    layers = on_crossbars(model)
    rows[f"crossbars {BITS}, no noise, no adapters"] = accuracy(model)
    tuning = min(STEPS, steps or STEPS)
    tune(task, model, layers, 0.0, "ideal", tuning)
    rows["ideal: adapters in fp32, no noise"] = tested(model, layers, 0.0, "ideal")
    print(rows, flush=True)
    for noise in (0.01, 0.02, 0.05):
        for layer in layers:
            nn.init.zeros_(layer.b)
            layer.ideal = False
        key = f"cell noise {100 * noise:g} %"
        rows[f"{key}, no adapters"] = tested(model, layers, noise, "none")
        for way in ("blind", "aware", "chip"):
            tune(task, model, layers, noise, way, tuning)
            rows[f"{key}, {way}"] = tested(model, layers, noise, way)
            print(f"{key}, {way}: {rows[f'{key}, {way}']:.2f} %", flush=True)
    return {"bits": BITS, "rank": RANK, "steps": tuning, "rows": rows}
