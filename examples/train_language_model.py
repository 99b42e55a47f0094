"""Train a small byte-level language model on the source of Python's standard library.

The result is a trained checkpoint of 1.9 million parameters, made from text that every Python
installation brings along; nothing is downloaded. It needs PyTorch, NumPy and safetensors:

    python examples/train_language_model.py --minutes 21 -o language_model.safetensors

The model is a causal transformer over bytes: pre-norm (RMSNorm), rotary positions, SwiGLU. Matrix
products run in bfloat16 with float32 master weights (--float32 turns that off, for processors
without bfloat16 instructions). With --minutes, the number of steps depends on the machine's speed.
With --pack CODEC, what autograd saves rests packed (needs fewbits).
"""

import argparse
import contextlib
import math
import platform
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

SKIPPED_FOLDERS = {
    *("__pycache__", "dist-packages", "site-packages"),  # not the standard library
    *("test", "tests", "idlelib", "turtledemo"),  # tests and an application
    *("encodings", "pydoc_data"),  # generated tables
}
VALIDATION_FILES = {
    *("calendar.py", "csv.py", "fractions.py", "heapq.py", "shutil.py", "textwrap.py"),
    *("json/encoder.py", "logging/handlers.py", "urllib/robotparser.py", "wsgiref/handlers.py"),
}
SEPARATOR = b"\0"  # between files


@dataclass(frozen=True)
class Shape:
    """The sizes that define the model."""

    vocabulary: int = 256
    width: int = 192
    hidden: int = 512
    heads: int = 3
    blocks: int = 4
    context: int = 256


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin) * q.shape[-1] ** -0.5, rotate(k, cos, sin)
        # Written out: at this size, on a processor, that is faster than the fused operation.
        y = (q @ k.transpose(-1, -2) + mask.to(q.dtype)).softmax(-1).to(v.dtype) @ v
        y = y.transpose(1, 2).reshape(batch, length, width)
        return self.out(y)


class MLP(nn.Module):
    """A SwiGLU feed-forward layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.width)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, *position: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), *position)
        return x + self.mlp(self.mlp_norm(x))


class LanguageModel(nn.Module):
    """Bytes in, logits of the next byte out."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        half = shape.width // shape.heads // 2
        angles = torch.outer(torch.arange(shape.context), 10000.0 ** (-torch.arange(half) / half))
        mask = torch.full((shape.context, shape.context), -math.inf).triu(1)
        self.position = angles.cos(), angles.sin(), mask
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 if residual else 0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        n, (cos, sin, mask) = tokens.shape[1], self.position
        for block in self.blocks:
            x = block(x, cos[:n], sin[:n], mask[:n, :n])
        return self.head(self.norm(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to the last axis of queries or keys."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


def read_library() -> tuple[Tensor, Tensor]:
    """The bytes of the standard library's source files: those to train on, those held out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    training, held_out = bytearray(), bytearray()
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    for name in names:
        *folders, file = name.split("/")
        if SKIPPED_FOLDERS.intersection(folders) or file.startswith("_sysconfigdata"):
            continue
        part = held_out if name in VALIDATION_FILES else training
        part += (root / name).read_bytes() + SEPARATOR
    return as_tokens(training), as_tokens(held_out)


def as_tokens(data: bytes | bytearray) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytes(data), dtype=np.uint8).astype(np.int64))


def bits_per_byte(model: LanguageModel, data: Tensor, batch: int = 32) -> float:
    """The mean loss over the whole of `data`, cut into windows of the model's context."""
    context = model.shape.context
    windows = (len(data) - 1) // context
    inputs = data[: windows * context].view(windows, context)
    targets = data[1 : windows * context + 1].view(windows, context)
    total = 0.0
    with torch.no_grad():
        for i in range(0, windows, batch):
            logits, wanted = model(inputs[i : i + batch]), targets[i : i + batch]
            total += F.cross_entropy(logits.mT, wanted, reduction="sum").item()
    return total / targets.numel() / math.log(2)


def sample(model: LanguageModel, prompt: bytes, count: int, seed: int) -> str:
    """Continue `prompt` by `count` bytes, drawn at a temperature of 0.7."""
    generator = torch.Generator().manual_seed(seed)
    tokens = as_tokens(prompt)[None]
    with torch.no_grad():
        for _ in range(count):
            logits = model(tokens[:, -model.shape.context :])[:, -1]
            drawn = torch.multinomial((logits / 0.7).softmax(-1), 1, generator=generator)
            tokens = torch.cat((tokens, drawn), dim=1)
    return bytes(tokens[0].tolist()).decode("utf-8", errors="replace")


def train(model: LanguageModel, data: Tensor, options: argparse.Namespace) -> int:
    """Train until the steps or the minutes are used up; returns the number of steps done."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    gains = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    generator = torch.Generator().manual_seed(options.seed)
    offsets = torch.arange(model.shape.context + 1)
    limit = 60 * (options.minutes or math.inf)
    packing = packing_of(options.pack)
    start = time.monotonic()
    step, progress, smooth = 0, 0.0, 8.0
    while progress < 1:
        warmup = min(1.0, (step + 1) / 100)
        rate = options.rate * warmup * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(data) - len(offsets), (options.batch, 1), generator=generator)
        window = data[starts + offsets]
        with packing:
            with torch.autocast("cpu", torch.bfloat16, enabled=not options.float32):
                logits = model(window[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        smooth = 0.98 * smooth + 0.02 * loss.item() / math.log(2)
        step += 1
        elapsed = time.monotonic() - start
        progress = max(step / options.steps, elapsed / limit)
        if step % 100 == 0 or progress >= 1:
            print(f"step {step:6d}  {smooth:.3f} bits/byte  {elapsed:5.0f} s", flush=True)
    if options.pack:
        print(str(packing.report()).splitlines()[-1])
    return step


def packing_of(codec: str | None) -> contextlib.AbstractContextManager:
    """Where the forward pass runs: in plain PyTorch, or with what autograd saves packed."""
    if codec is None:
        return contextlib.nullcontext()
    from fewbits.training import pack_activations

    return pack_activations(codec)


def main() -> None:
    parser = argparse.ArgumentParser(description="train a small byte-level language model")
    parser.add_argument("--steps", type=int, default=12_000, help="optimizer steps at most")
    parser.add_argument("--minutes", type=float, help="wall time at most; the schedule adapts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8, help="windows in a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 matrix products")
    parser.add_argument("--pack", metavar="CODEC", help="pack saved activations: int8, int4, auto")
    parser.add_argument("-o", "--output", type=Path, default=Path("language_model.safetensors"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    training, held_out = read_library()
    model = LanguageModel(Shape())
    params = sum(p.numel() for p in model.parameters())
    print(f"{params:,} parameters; {len(training):,} bytes to train on, {len(held_out):,} held out")
    steps = train(model, training, options)

    model.bfloat16().float()  # what follows measures the weights as they are saved
    loss = bits_per_byte(model, held_out)
    print(f"validation: {loss:.4f} bits per byte after {steps} steps")
    print(sample(model, b"\ndef ", 200, options.seed))
    major, minor, _ = platform.python_version_tuple()
    metadata = {
        "format": "pt",
        "model": f"byte-level causal transformer, {model.shape}",
        "params": str(params),
        "trained_on": f"source of the Python {major}.{minor} standard library",
        "steps": str(steps),
        "validation_bits_per_byte": f"{loss:.4f}",
    }
    tensors = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    save_file(tensors, options.output, metadata=metadata)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
