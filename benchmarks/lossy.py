"""Error-bounded and fixed-rate codecs beside SZ3 (pysz) and ZFP (zfpy), on activations.

    pip install -e '.[bench]' scikit-image torch==2.13.0
    python benchmarks/lossy.py [--json FILE] [--repeats N]

The activations are what autograd saves in one step of a small residual network over crops of the
photographs that scikit-image carries, and of a small transformer over the docstrings of Python's
standard library, both after a few steps of training. Ratios and errors are over all of them: bytes
before by bytes after, and the error's root mean square by the standard deviation, tensor by tensor,
averaged in dB. Times are process CPU time on one thread; the codecs take turns, medians are shown.
Peers that are not installed are left out.
"""

import argparse
import ast
import json
import math
import statistics
import sysconfig
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fewbits.lossy import Bounded, FixedRate, TensorSpec, packed_nbytes

BOUNDS = (0.01, 0.1, 0.5)  # of each tensor's standard deviation
RATES = (4, 8, 16)  # bits for each value


class Residual(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.short = nn.Conv2d(inner, outer, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.short(x))


def saved(step: Callable[[], torch.Tensor], model: nn.Module) -> list[torch.Tensor]:
    """Float tensors that autograd keeps for a step, each once, without the parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        place = x.untyped_storage().data_ptr()
        if x.dtype == torch.float32 and x.numel() >= 1 << 14 and place not in own:
            kept[place, tuple(x.shape)] = x.detach()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        step()
    return [x.contiguous().clone() for x in kept.values() if float(x.std()) > 0]


def train(model: nn.Module, loss: Callable[[], torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def network() -> list[torch.Tensor]:
    from skimage import data

    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(photographs)),
    )  # fmt: skip

    def loss() -> torch.Tensor:
        which = rng.integers(len(photographs), size=32)
        crops = []
        for photograph in (photographs[k] for k in which):
            top, left = (rng.integers(size - 64) for size in photograph.shape[:2])
            crops.append(photograph[top : top + 64 : 2, left : left + 64 : 2] / 255 - 0.5)
        x = torch.tensor(np.stack(crops), dtype=torch.float32).movedim(-1, 1).contiguous()
        return F.cross_entropy(model(x), torch.tensor(which))

    train(model, loss, 40)
    return saved(loss, model)


def docstrings() -> bytes:
    texts = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        texts += [
            ast.get_docstring(node) or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        ]
    return "\n\n".join(texts).encode("ascii", "replace")


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, "gelu", True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(128, 128)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.layers(self.embed(x), mask=mask, is_causal=True))


def transformer() -> list[torch.Tensor]:
    text = torch.tensor(list(docstrings()))
    generator = torch.Generator().manual_seed(0)
    model = Language()

    def loss() -> torch.Tensor:
        first = torch.randint(len(text) - 129, (16, 1), generator=generator)
        rows = text[first + torch.arange(129)]
        return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    train(model, loss, 20)
    return saved(loss, model)


Packed = object


@dataclass(frozen=True)
class Contender:
    """A codec at one setting: packs a tensor, says how large that is, unpacks it."""

    name: str
    pack: Callable[[torch.Tensor], Packed]
    size: Callable[[Packed], int]
    unpack: Callable[[Packed, torch.Tensor], torch.Tensor]


def ours(codec: Bounded | FixedRate, name: str) -> Contender:
    return Contender(
        name, codec.encode, packed_nbytes, lambda parts, x: codec.decode(parts, TensorSpec.of(x))
    )


def planes(x: torch.Tensor) -> np.ndarray:
    """As the peers take it: 3 dimensions at most, those in front joined."""
    array = x.numpy()
    return array.reshape(-1, *array.shape[-2:]) if array.ndim > 3 else array


def sz3(share: float) -> Contender | None:
    try:
        from pysz import sz, szConfig, szErrorBoundMode
    except ImportError:
        return None

    def pack(x: torch.Tensor) -> Packed:
        config = szConfig()
        config.errorBoundMode = szErrorBoundMode.ABS
        config.absErrorBound = share * float(x.std(correction=0))
        return sz.compress(planes(x), config)[0]

    def unpack(packed: Packed, x: torch.Tensor) -> torch.Tensor:
        found = sz.decompress(packed, np.float32, planes(x).shape)
        return torch.from_numpy(found[0] if isinstance(found, tuple) else found).view(x.shape)

    return Contender("SZ3", pack, lambda packed: packed.nbytes, unpack)


def zfp(rate: int) -> Contender | None:
    try:
        import zfpy
    except ImportError:
        return None

    def pack(x: torch.Tensor) -> Packed:
        return zfpy.compress_numpy(x.numpy().reshape(-1, x.shape[-1]), rate=rate)

    def unpack(packed: Packed, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(zfpy.decompress_numpy(packed)).view(x.shape)

    return Contender("ZFP", pack, len, unpack)


@dataclass(frozen=True)
class Row:
    data: str
    setting: str
    codec: str
    ratio: float
    signal_to_noise_db: float
    largest_error_by_std: float
    pack_mb_per_s: float
    unpack_mb_per_s: float


def measure(data: str, setting: str, contenders: list[Contender], tensors: list[torch.Tensor],
            repeats: int) -> list[Row]:  # fmt: skip
    """One row a contender; they take turns."""
    times: dict[str, tuple[list[float], list[float]]] = {c.name: ([], []) for c in contenders}
    rows = {}
    size = sum(x.nbytes for x in tensors)
    for turn in range(repeats):
        for c in contenders:
            start = time.process_time()
            packed = [c.pack(x) for x in tensors]
            between = time.process_time()
            back = [c.unpack(p, x) for p, x in zip(packed, tensors, strict=True)]
            times[c.name][1].append(time.process_time() - between)
            times[c.name][0].append(between - start)
            if turn == 0:
                noise, worst = [], 0.0
                for x, y in zip(tensors, back, strict=True):
                    spread, error = float(x.double().std(correction=0)), x.double() - y.double()
                    noise.append(-20 * math.log10(float(error.square().mean()) ** 0.5 / spread))
                    worst = max(worst, float(error.abs().max()) / spread)
                rows[c.name] = (size / sum(map(c.size, packed)), statistics.mean(noise), worst)
    speed = {
        name: [size / 1e6 / statistics.median(t) for t in both] for name, both in times.items()
    }
    return [Row(data, setting, name, *found, *speed[name]) for name, found in rows.items()]


def run(repeats: int) -> list[Row]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = []
    for data, make in (("residual network", network), ("transformer", transformer)):
        tensors = make()
        for share in BOUNDS:
            mine = [ours(Bounded(share, "std"), "bounded"),
                    ours(Bounded(share, "std", dither=True), "bounded, dithered")]  # fmt: skip
            contenders = [c for c in (*mine, sz3(share)) if c]
            rows += measure(data, f"bound {share} std", contenders, tensors, repeats)
        for rate in RATES:
            contenders = [c for c in (ours(FixedRate(rate), "fixed rate"), zfp(rate)) if c]
            rows += measure(data, f"{rate} bits", contenders, tensors, repeats)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = run(options.repeats)
    print("| activations | setting | codec | ratio | S/N dB | error/std | MB/s | unpack |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for r in rows:
        print(
            f"| {r.data} | {r.setting} | {r.codec} | {r.ratio:.2f} | {r.signal_to_noise_db:.1f} | "
            f"{r.largest_error_by_std:.3g} | {r.pack_mb_per_s:.0f} | {r.unpack_mb_per_s:.0f} |"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
