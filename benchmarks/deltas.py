"""Checkpoints as changes since the one before: how small, and how quick.

    python benchmarks/deltas.py               # MiniLM's weights with made-up steps of training
    python benchmarks/deltas.py --train       # and a small language model in training (needs torch)
    python benchmarks/deltas.py A.safetensors B.safetensors    # B as changes since A

Every tensor comes back bit for bit, or the script ends. "without base": `fewbits.save` as usual.
"XOR, bytes": XOR of both checkpoints, then byte by byte, as ZipNN goes about it, but packed here:
each byte of the elements of a tensor has a range table of its own. "ZipNN": that itself, if it is
installed, on all tensors as one array. "with base": `fewbits.save(..., base=...)`; "bits" are those
of a value. Ratio: bytes of the tensors over bytes of the archive, everything counted but the base.
Times are CPU seconds of one thread.

The steps, on MiniLM in fp32 and rounded to bf16:

* fine-tuning: every weight moves as Adam moves it, by about the learning rate times a few: a normal
  number of standard deviation lr * sqrt(steps), each weight with its own sign and scale;
* frozen: the same, but only the last two layers move;
* sparse: one weight in a hundred moves;
* LoRA: a random update of rank 8 is merged into each matrix of the attention.
"""

import argparse
import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from model_ratios import minilm
from numpy.typing import NDArray

import fewbits
from fewbits.files import pack_path, unpack_path
from fewbits.frame import pack_parts
from fewbits.values.types import Layout, Remap, layout_of, to_storage

Tensors = dict[str, NDArray]
Change = Callable[[str, NDArray, np.random.Generator], NDArray]


def adam(rate: float, steps: int) -> Change:
    """So many steps of a learning rate; weights differ in how steadily their gradient points."""

    def change(name: str, w: NDArray, rng: np.random.Generator) -> NDArray:
        scale = rate * np.sqrt(steps) * np.exp(rng.normal(0, 0.5, w.shape))
        return w + rng.normal(0, 1, w.shape) * scale

    return change


def frozen(rate: float, steps: int) -> Change:
    moves = adam(rate, steps)
    return lambda name, w, rng: moves(name, w, rng) if ".4." in name or ".5." in name else w


def sparse(share: float, rate: float) -> Change:
    return lambda name, w, rng: w + rng.normal(0, rate, w.shape) * (rng.random(w.shape) < share)


def lora(rank: int, rate: float) -> Change:
    def change(name: str, w: NDArray, rng: np.random.Generator) -> NDArray:
        if w.ndim != 2 or "attention" not in name:
            return w
        down, up = rng.normal(0, 1, (rank, w.shape[1])), rng.normal(0, 1, (w.shape[0], rank))
        return w + rate / np.sqrt(rank) * (up @ down)

    return change


STEPS: dict[str, Change] = {
    "fine-tuning, lr 1e-6, 100 steps": adam(1e-6, 100),
    "fine-tuning, lr 2e-5, 100 steps": adam(2e-5, 100),
    "fine-tuning, lr 2e-5, 1 step": adam(2e-5, 1),
    "the same, last 2 of 6 layers": frozen(2e-5, 1),
    "sparse, 1 % of the weights": sparse(0.01, 1e-3),
    "LoRA of rank 8, attention": lora(8, 1e-3),
}


def xor_bytes(before: Tensors, after: Tensors) -> int:
    """Bytes of XOR packed byte by byte."""
    total = 0
    for name, array in after.items():
        changed = to_storage(array) ^ to_storage(before[name])
        size = layout_of(array.dtype).element_bytes
        for byte in range(size):
            plane = np.ascontiguousarray(changed[byte::size])
            layout = Layout(1, (Remap.IDENTITY,), ((1, 0),))
            total += sum(map(len, pack_parts(plane, threads=1, layout=layout)))
    return total


def zipnn(before: Tensors, after: Tensors) -> tuple[float, float]:
    """Bytes and seconds that ZipNN takes for ``after`` with ``before`` known; NaN without it."""
    if importlib.util.find_spec("zipnn") is None:
        return float("nan"), float("nan")
    codec = importlib.import_module("zipnn").ZipNN(
        input_format="byte",
        bytearray_dtype=next(iter(after.values())).dtype.name,
        threads=1,
        delta_compressed_type="byte",
    )
    # It writes into what it is given.
    flat = [bytearray(b"".join(a.tobytes() for a in t.values())) for t in (after, before)]
    start = time.process_time()
    return len(codec.compress(flat[0], delta_second_data=flat[1])), time.process_time() - start


def report(name: str, kind: str, before: Tensors, after: Tensors, folder: Path) -> None:
    """Pack ``after`` in all ways and print a line of the table."""
    base, usual, delta = (folder / name for name in ("base", "usual", "delta"))
    fewbits.save(before, base, threads=1)
    fewbits.save(after, usual, threads=1)
    start = time.process_time()
    fewbits.save(after, delta, base=base, threads=1)
    packed = time.process_time()
    back = fewbits.load(delta, base=base, threads=1)
    loaded = time.process_time()
    assert all(back[n].tobytes() == a.tobytes() for n, a in after.items())
    plain = sum(a.nbytes for a in after.values())
    zipnn_bytes, zipnn_s = zipnn(before, after)
    cells = [
        name,
        kind,
        f"{plain / usual.stat().st_size:.3f}",
        f"{plain / zipnn_bytes:.2f}",
        f"{plain / xor_bytes(before, after):.2f}",
        f"{plain / delta.stat().st_size:.2f}",
        f"{8 * delta.stat().st_size / sum(a.size for a in after.values()):.3f}",
        f"{zipnn_s:.1f}",
        f"{packed - start:.1f}",
        f"{loaded - packed:.2f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def made_up() -> Iterator[tuple[str, str, Tensors, Tensors]]:
    floats = {n: a for n, a in fewbits.load(minilm()).items() if a.dtype == np.float32}
    for name, change in STEPS.items():
        rng = np.random.default_rng(0)
        moved = {n: change(n, a.astype(np.float64), rng) for n, a in floats.items()}
        for kind, dtype in (("fp32", np.float32), ("bf16", ml_dtypes.bfloat16)):
            before = {n: a.astype(dtype) for n, a in floats.items()}
            # Rounded once, from the master weights, as mixed precision does.
            yield (
                name,
                kind,
                before,
                {n: a.astype(np.float32).astype(dtype) for n, a in moved.items()},
            )


def trained(steps: int = 300, every: int = 100) -> Iterator[tuple[str, str, Tensors, Tensors]]:
    """Checkpoints of a small transformer that learns this project's licence, byte by byte."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = torch.tensor(list((Path(__file__).resolve().parents[1] / "LICENSE").read_bytes()))
    layer = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, batch_first=True, norm_first=True)
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(256, 256),
            "body": nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
            "head": nn.Linear(256, 256),
        }
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    mask = nn.Transformer.generate_square_subsequent_mask(64)

    def checkpoint() -> Tensors:
        return {n: p.detach().numpy().copy() for n, p in model.named_parameters()}

    taken = []
    for step in range(1, steps + 1):
        at = torch.randint(len(text) - 65, (16,))
        batch = torch.stack([text[i : i + 65] for i in at])
        hidden = model["body"](model["embed"](batch[:, :-1]), mask=mask, is_causal=True)
        loss = nn.functional.cross_entropy(
            model["head"](hidden).flatten(0, 1), batch[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (steps - every, steps - 1, steps):
            taken.append((step, checkpoint()))
    (_, far), (_, near), (_, last) = taken
    for name, before in ((f"training, {every} steps apart", far), ("training, 1 step apart", near)):
        for kind, dtype in (("fp32", np.float32), ("bf16", ml_dtypes.bfloat16)):
            yield name, kind, *({n: a.astype(dtype) for n, a in t.items()} for t in (before, last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="a base, then a checkpoint after it")
    parser.add_argument("--train", action="store_true", help="train a small model, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.files:
            base, later = options.files
            packed, back = Path(folder) / "packed", Path(folder) / "back"
            totals = pack_path(later, packed, base=base)
            unpack_path(packed, back, base=base)
            assert back.read_bytes() == later.read_bytes()
            print(f"{totals.deltas} deltas, ratio {totals.bytes_in / totals.bytes_out:.3f}")
            return
        print("| change | type | without base | ZipNN | XOR, bytes ", end="")
        print(f"| with base | bits | ZipNN packs, s | pack s | load s |\n{'|---' * 10}|")
        for found in made_up():
            report(*found, Path(folder))
        for found in trained() if options.train else ():
            report(*found, Path(folder))


if __name__ == "__main__":
    main()
