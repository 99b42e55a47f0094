"""Loading a whole bf16 checkpoint, packed and plain: from memory, and from storage of any speed.

    pip install matplotlib                         # for --plot
    python benchmarks/loading.py --plot loading.png

The checkpoints are Gaussian noise in the shapes of a 7B model's layer, and in MiniLM's shapes many
times over. Each load runs in a new process, the kinds in turn, and medians count. GB are
10^9 bytes of the unpacked tensors.

Storage of a given speed is a file in memory that sleeps before it hands out a range, with no copy.
From it the plain checkpoint takes no processor time at all, which is the best that it can do.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import fsspec
import ml_dtypes
import numpy as np
import safetensors.numpy

import fewbits

THREADS = (1, 2)
REFERENCE = "safetensors, load_file"
Seconds = tuple[float, float]  # wall, CPU
LARGE = {
    "q": (4096, 4096), "k": (1024, 4096), "v": (1024, 4096), "o": (4096, 4096),
    "gate": (11008, 4096), "up": (11008, 4096), "down": (4096, 11008),
    "norm.1": (4096,), "norm.2": (4096,),
}  # fmt: skip
SMALL = {
    "query": (384, 384), "key": (384, 384), "value": (384, 384), "output": (384, 384),
    "query.bias": (384,), "key.bias": (384,), "value.bias": (384,), "output.bias": (384,),
    "up": (1536, 384), "up.bias": (1536,), "down": (384, 1536), "down.bias": (384,),
    "norm.1": (384,), "norm.2": (384,),
}  # fmt: skip
MODELS = {"large tensors": ((12288, 4096), LARGE), "small tensors": ((30522, 384), SMALL)}


def checkpoint(embedding: tuple[int, int], layer: dict[str, tuple[int, ...]], size: int) -> Any:
    """An embedding and layers, until they are so many bytes."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(1 << 26, np.float32)

    def tensor(name: str, shape: tuple[int, ...]) -> Any:
        elements = int(np.prod(shape))
        start = int(rng.integers(noise.size - elements))
        values = noise[start : start + elements].reshape(shape) * rng.uniform(0.01, 0.05)
        return (values + ("norm" in name)).astype(ml_dtypes.bfloat16)

    tensors = {"embedding": tensor("embedding", embedding)}
    for index in count():
        if sum(array.nbytes for array in tensors.values()) >= size:
            return tensors
        tensors |= {f"layer.{index}.{name}": tensor(name, shape) for name, shape in layer.items()}


class SlowFile:
    """A file in memory whose bytes come at so many a second."""

    def __init__(self, data: bytes, rate: float) -> None:
        self._data, self._rate = memoryview(data), rate
        self._place, self._ready, self._lock = 0, 0.0, threading.Lock()

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (len(self._data) if whence == 2 else 0)
        return self._place

    def read(self, size: int) -> memoryview:
        with self._lock:
            # A sleep that takes too long, by a little, makes the next one shorter.
            begun = max(self._ready, time.perf_counter() - 1e-3)
            self._ready = begun + size / self._rate
            time.sleep(max(0.0, self._ready - time.perf_counter()))
            return self._data[self._place : self._place + size]

    def close(self) -> None:
        pass


class SlowStore(fsspec.AbstractFileSystem):
    """``slow://NAME``: files of this process that come slowly."""

    protocol, cachable = "slow", False
    files: dict[str, SlowFile] = {}  # noqa: RUF012

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return self.files[self._strip_protocol(path)]


def seconds(work: Callable[[], Any]) -> Seconds:
    started, cpu = time.perf_counter(), time.process_time()
    kept = work()
    found = time.perf_counter() - started, time.process_time() - cpu
    del kept
    return found


def plain_load(folder: Path) -> Seconds:
    return seconds(lambda: safetensors.numpy.load_file(folder / "plain"))


def packed_load(folder: Path, threads: int) -> Seconds:
    return seconds(lambda: fewbits.load(folder / "packed", threads=threads))


def packed_into(folder: Path, threads: int) -> Seconds:
    """Into arrays that are there already."""
    out = fewbits.load(folder / "packed")
    with fewbits.open(folder / "packed", threads=threads) as archive:
        return seconds(lambda: [archive[name].unpack_into(array) for name, array in out.items()])


def from_storage(folder: Path, name: str, rate: float, threads: int) -> Seconds:
    fsspec.register_implementation("slow", SlowStore, clobber=True)
    SlowStore.files[name] = SlowFile((folder / name).read_bytes(), rate)
    if name == "packed":
        return seconds(lambda: fewbits.load(f"slow://{name}", threads=threads))
    with fewbits.open(f"slow://{name}") as archive:
        return seconds(lambda: list(archive.values()))


def measure(tasks: dict[Any, Callable[[], Seconds]], runs: int) -> dict[Any, Seconds]:
    """Medians of wall and CPU time, each run in a new process."""
    found: dict[Any, list[Seconds]] = {name: [] for name in tasks}
    names, rng = list(tasks), np.random.default_rng(0)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for _ in range(runs):
            # In another order each time: what ran before decides which free memory there is.
            for index in rng.permutation(len(names)):
                found[names[index]].append(fresh.submit(tasks[names[index]]).result())
    return {
        name: (median(wall for wall, _ in times), median(cpu for _, cpu in times))
        for name, times in found.items()
    }


def write(folder: Path, model: str, size: int) -> int:
    """Both files of a checkpoint; its bytes."""
    tensors = checkpoint(*MODELS[model], size)
    safetensors.numpy.save_file(tensors, folder / "plain")
    fewbits.save(tensors, folder / "packed")
    total = sum(array.nbytes for array in tensors.values())
    packed = (folder / "packed").stat().st_size
    print(
        f"\n{model}: {len(tensors)} of them, {total / 1e6:.0f} MB, packed {packed / 1e6:.0f} MB\n"
    )
    return total


def from_memory(folder: Path, total: int, runs: int) -> None:
    tasks: dict[str, Callable[[], Seconds]] = {REFERENCE: partial(plain_load, folder)}
    for title, work in {"load": packed_load, "unpack_into": packed_into}.items():
        for threads in THREADS:
            tasks[f"fewbits, {title}, threads: {threads}"] = partial(work, folder, threads)
    found = measure(tasks, runs)
    base = found[REFERENCE][0]
    print("| from the page cache | wall s | CPU s | GB/s | time, of load_file |")
    print("|---|---|---|---|---|")
    for name, (wall, cpu) in found.items():
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {total / wall / 1e9:.2f} | {wall / base:.2f} |")


def storage_table(folder: Path, rates: list[float], runs: int) -> dict[Any, Seconds]:
    kinds = [("plain", 1), *(("packed", threads) for threads in THREADS)]
    tasks = {
        (name, threads, rate): partial(from_storage, folder, name, rate * 1e9, threads)
        for rate in rates
        for name, threads in kinds
    }
    found = measure(tasks, runs)
    titles = ["plain: s", *(f"packed, threads: {threads}: s" for threads in THREADS)]
    print("\n| storage GB/s |", " | ".join(titles), "| plain / packed |")
    print("|---|" + "---|" * (len(titles) + 1))
    for rate in rates:
        walls = [found[name, threads, rate][0] for name, threads in kinds]
        cells = " | ".join(f"{wall:.3f}" for wall in walls)
        print(f"| {rate:g} | {cells} | {walls[0] / walls[-1]:.2f} |")
    return found


def plot(found: dict[Any, Seconds], rates: Iterable[float], total: int, path: Path) -> None:
    from matplotlib import pyplot

    rates = list(rates)
    figure, axes = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")
    for (name, threads), mark in (("plain", 1), "o"), (("packed", 1), "^"), (("packed", 2), "s"):
        speeds = [total / found[name, threads, rate][0] / 1e9 for rate in rates]
        label = name if name == "plain" else f"{name}, threads: {threads}"
        axes.loglog(rates, speeds, marker=mark, label=label)
    ticks = [0.5, 1, 2, 4, 8]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(pyplot.FixedLocator(ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(pyplot.NullLocator())
    axes.set(xlabel="storage, GB/s", ylabel="tensors loaded, GB/s", title="Loading a checkpoint")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=440, help="MB of each checkpoint, at least")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 1, 2, 4, 8], help="GB/s")
    parser.add_argument("--plot", type=Path, help="where to draw the last table")
    options = parser.parse_args()
    for model in reversed(MODELS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            total = write(folder, model, options.size * 10**6)
            from_memory(folder, total, options.runs)
            if model == "large tensors":
                found = storage_table(folder, options.rates, max(3, options.runs // 2))
                if options.plot:
                    plot(found, options.rates, total, options.plot)


if __name__ == "__main__":
    main()
