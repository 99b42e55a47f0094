"""Memory of generated steps, measured, beside eager autograd; and how long generation takes.

Every storage that an operation makes is followed while it lives, and counted after each operation
of PyTorch: what an operation needs inside, and lets go, is not seen. Parameters and the batch are
there before and do not count, and gradients of parameters are counted out. "After forward" is
what lives when the loss is known, "at most" the largest count of the whole step.

The eager side is autograd over PyTorch's own operations, such as F.layer_norm and
F.scaled_dot_product_attention: ResNets as torch.nn modules with ReLUs in place, the other models by
the generated `forward`.
"""

import argparse
import time

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from fewbits.unroll import models
from fewbits.unroll.generate import unroll
from fewbits.unroll.verify import example, load


class Held(TorchDispatchMode):
    """Bytes of all storages that operations made and that live, now and at most.

    ``apart`` are ordinals of storages that are not counted: those that were left at the end of an
    earlier run, which are the gradients.
    """

    def __init__(self, apart: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.seen: dict[int, tuple[StorageWeakRef, int, int]] = {}
        self.most = self.made = 0
        self.apart = apart

    def _look(self) -> None:
        self.seen = {key: held for key, held in self.seen.items() if not held[0].expired()}

    @property
    def now(self) -> int:
        self._look()
        return sum(size for _, size, ordinal in self.seen.values() if ordinal not in self.apart)

    @property
    def left(self) -> frozenset[int]:
        self._look()
        return frozenset(ordinal for _, _, ordinal in self.seen.values())

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self._look()
        out = function(*args, **(kwargs or {}))
        for item in out if isinstance(out, tuple | list) else [out]:
            if isinstance(item, torch.Tensor):
                storage = item.untyped_storage()
                if storage.data_ptr() not in self.seen:
                    self.made += 1
                    held = (StorageWeakRef(storage), storage.nbytes(), self.made)
                    self.seen[storage.data_ptr()] = held
        self.most = max(self.most, self.now)
        return out


class Residual(nn.Module):
    def __init__(self, layers: list[nn.Module], shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = nn.Sequential(*layers), shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.body(x) + self.shortcut(x))


def norm(inside: int, out: int, kernel: int, stride: int = 1, relu: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(inside, out, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out), *([nn.ReLU(inplace=True)] if relu else [])]


def resnet(depth: int, width: int, classes: int) -> nn.Module:
    """ResNet-18 or -50 of torch.nn modules."""
    wide = 4 if depth == 50 else 1
    counts = [3, 4, 6, 3] if depth == 50 else [2, 2, 2, 2]
    layers = [*norm(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inside = width
    for stage, count in enumerate(counts):
        w = width * 2**stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            if depth == 50:
                body = norm(inside, w, 1) + norm(w, w, 3, stride) + norm(w, 4 * w, 1, relu=False)
            else:
                body = norm(inside, w, 3, stride) + norm(w, w, 3, relu=False)
            same = stride == 1 and inside == w * wide
            short = (
                nn.Identity()
                if same
                else nn.Sequential(*norm(inside, w * wide, 1, stride, relu=False))
            )
            layers.append(Residual(body, short))
            inside = w * wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def eager(name: str, made, numbers: dict[str, int], inputs: list) -> tuple[int, int]:
    """Bytes held after forward, and at most."""
    if name.startswith("resnet"):
        width, classes = numbers.get("width", 64), numbers.get("classes", 1000)
        module = resnet(int(name[6:]), width, classes)
        leaves = dict(module.named_parameters())

        def forward():
            return nn.functional.cross_entropy(module(inputs[0]), inputs[1])
    else:
        names = load(made.source)
        leaves = {key: p.requires_grad_() for key, p in names["new_parameters"]().items()}

        def forward():
            return names["forward"](leaves, *inputs)[-1]

    apart: frozenset[int] = frozenset()
    for _ in range(2):
        for leaf in leaves.values():
            leaf.grad = None
        with Held(apart) as held:
            loss = forward()
            after = held.now
            loss.backward()
            apart = held.left
    return after, held.most


def generated(made, inputs: list) -> tuple[int, int]:
    """Bytes held after forward, and at most."""
    turn = "    # Backward.\n"
    assert made.source.count(turn) == 1
    names = load(made.source.replace(turn, f"{turn}    after_forward()\n"))
    parameters = names["new_parameters"]()
    apart: frozenset[int] = frozenset()
    seen: list[int] = []
    for _ in range(2):
        with Held(apart) as held:
            names["after_forward"] = lambda held=held: seen.append(held.now)
            _kept = names["training_step"](parameters, *inputs)
            apart = held.left
    return seen[-1], held.most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=models.names())
    parser.add_argument("numbers", nargs="*", metavar="NAME=NUMBER")
    parser.add_argument("--codecs", default="none,int8,int4,int2,dct4+int8")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    numbers = {key: int(value) for key, value in (pair.split("=") for pair in chosen.numbers)}
    text = models.path_of(chosen.model).read_text("utf-8")
    start = time.process_time()
    made = unroll(text, settings=numbers)
    print(f"generated in {time.process_time() - start:.2f} s of CPU time (torch is loaded)")
    inputs = [*example(made.graph), *([3] if made.planned.schedule.program.seeded else [])]
    after, most = eager(chosen.model, made, numbers, inputs)
    print(f"{'':12}{'after forward':>15}{'':8}{'at most':>15}   (MB, without gradients)")
    print(f"{'eager':12}{after / 1e6:15.2f}{'':8}{most / 1e6:15.2f}")
    for codec in chosen.codecs.split(","):
        made = unroll(text, settings=numbers, codec=codec)
        rest, top = generated(made, inputs)
        print(
            f"{codec:12}{rest / 1e6:15.2f}{after / rest:7.1f}x{top / 1e6:15.2f}{most / top:7.1f}x"
        )


if __name__ == "__main__":
    main()
