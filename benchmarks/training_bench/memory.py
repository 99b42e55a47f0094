"""Memory of one training step, as PyTorch's allocator saw it: nothing is estimated.

The profiler reports each allocation and release on the CPU with its time. Parameters, gradients and
the batch exist before the step and count for nothing, packed or not. Python objects and arrays that
NumPy owns are not seen; only lossless frames are among those, and they are small.
"""

import gc
import time
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from training_bench.task import Context, Size, Task


@dataclass(frozen=True)
class StepMemory:
    """Bytes over a step, above what was there before it."""

    #: At the end of forward, when only what backward needs is left.
    held: int
    #: At most, over forward and backward.
    peak: int
    #: (seconds from the start, bytes) after every change.
    timeline: tuple[tuple[float, int], ...]
    #: Seconds from the start at which forward ended.
    forward_ended: float


def step_memory(
    task: Task,
    size: Size,
    context: Context = nullcontext,
    *,
    recompute: bool = False,
    warm: int = 1,
) -> StepMemory:
    """One step after ``warm`` ones, whose gradients stay, as they do in real training."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = task.model(size, recompute=recompute)

    batch = task.batch(size, generator)

    def forward() -> torch.Tensor:
        with context():
            return task.loss(model, batch)

    for _ in range(warm):
        forward().backward()
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        with record_function("step"):
            loss = forward()
        with record_function("backward"):
            loss.backward()
    return _read(profiled)


def _read(profiled: profile) -> StepMemory:
    events = profiled.profiler.kineto_results.events()
    starts = {event.name(): event.start_ns() for event in events
              if event.name() in ("step", "backward")}  # fmt: skip
    changes = sorted((event.start_ns(), event.nbytes()) for event in events
                     if event.name() == "[memory]")  # fmt: skip
    timeline, live, held = [], 0, 0
    for when, change in changes:
        if when < starts["step"]:
            continue
        if when < starts["backward"]:
            held = live + change
        live += change
        timeline.append(((when - starts["step"]) / 1e9, live))
    peak = max(bytes_ for _, bytes_ in timeline)
    return StepMemory(held, peak, tuple(timeline), (starts["backward"] - starts["step"]) / 1e9)


def step_times(
    task: Task, size: Size, ways: dict[str, tuple[Context, bool, int]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of CPU time of whole steps, the ways in turn, each with a model of its own.

    ``ways`` name a context for the forward pass, whether blocks are recomputed, and how many steps
    come before those that are timed. All threads'
    time counts, so this is to be read with one thread.
    """
    generator = torch.Generator().manual_seed(0)
    models, found = {}, {name: [] for name in ways}
    for name, (_, recompute, _) in ways.items():
        torch.manual_seed(0)
        models[name] = task.model(size, recompute=recompute)

    def step(name: str) -> float:
        batch = task.batch(size, generator)
        started = time.process_time()
        with ways[name][0]():
            loss = task.loss(models[name], batch)
        loss.backward()
        took = time.process_time() - started
        models[name].zero_grad()
        return took

    for name, (*_, warm) in ways.items():
        for _ in range(warm):
            step(name)
    for _ in range(rounds):
        for name in ways:
            found[name].append(step(name))
    return found
