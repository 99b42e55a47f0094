"""Training with packed activations: accuracy, bytes, memory and time of four tasks.

    pip install -c constraints.txt torch scikit-image scikit-learn matplotlib
    python benchmarks/training.py --task cnn,lm --codec int8,int4 --results training.jsonl --resume
    python benchmarks/training.py --only show --results training.jsonl --resume --plots plots

The tasks are in `training_bench`: a residual convolutional network and a small vision transformer
that tell 16 photographs apart by patches of 32 x 32 pixels, a language model of characters on the
documentation strings of Python's standard library, and a graph network on scikit-learn's digits.
Each trains for less than a minute on one core.

Three measurements, each for every task and codec:

* ``run``: training with each seed, and the metric on data that was not trained on. The ratio is
  that of all bytes autograd saved, without parameters, buffers and the batch, to all that was kept
  of them (codes, scales, masks, indices), in the middle step by ratio; ``auto`` also has steps
  that are exact, at the start and to compare gradients.
* ``memory``: one step of the larger model, seen by PyTorch's allocator: what is held at the end of
  forward, and the peak.
* ``time``: CPU time of whole steps of the larger model on one thread, exact, packed and with
  `torch.utils.checkpoint` in turn; the ratio of each packed step to the exact one of its turn.
"""

import argparse
import json
import os
import time
from contextlib import nullcontext
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own messages

import torch
from training_bench.graph import Graph
from training_bench.memory import step_memory, step_times
from training_bench.pictures import Cnn, Vit
from training_bench.results import Results, rows, table
from training_bench.task import Task
from training_bench.text import Text
from training_bench.ways import CODECS, way

TASKS: dict[str, Task] = {task.name: task for task in (Cnn(), Vit(), Text(), Graph())}
KINDS = ("run", "memory", "time")
QUICK = 20


def run(task: Task, codec: str, seed: int, steps: int, results: Results) -> None:
    """Train once; what is saved is counted in every step, exact training included."""
    if results.done("run", task=task.name, codec=codec, seed=seed, steps=steps):
        return
    packing, started = way(codec), time.process_time()
    metric, losses = task.train(
        seed, packing.context, steps=steps, backward=packing.backward, watch=packing.take
    )
    seconds = time.process_time() - started
    results.add(
        "run", task=task.name, codec=codec, seed=seed, steps=steps, metric=metric,
        loss=sum(losses[-10:]) / len(losses[-10:]), seconds=seconds, **packing.summary(),
    )  # fmt: skip
    print(
        f"{task.name} {codec} seed {seed}: {metric:.3f}, "
        f"ratio {packing.summary()['ratio']:.2f}, {seconds:.0f} s",
        flush=True,
    )


def memory(task: Task, codec: str, results: Results) -> None:
    """One step of the larger model."""
    if results.done("memory", task=task.name, codec=codec):
        return
    recompute = codec == "checkpoint"
    packing = way(codec)
    found = step_memory(task, task.large, packing.context, recompute=recompute, warm=packing.warm)
    results.add(
        "memory", task=task.name, codec=codec, held=found.held, peak=found.peak,
        timeline=found.timeline, forward_ended=found.forward_ended,
    )  # fmt: skip
    print(f"{task.name} {codec}: held {found.held / 1e6:.1f} MB, peak {found.peak / 1e6:.1f} MB")


def times(task: Task, codecs: list[str], rounds: int, results: Results) -> None:
    """Steps of the larger model, all codecs in turn."""
    wanted = [codec for codec in codecs if not results.done("time", task=task.name, codec=codec)]
    if not wanted:
        return
    ways = {"exact": (nullcontext, False, 1)}
    for codec in wanted:
        packing = way(codec)
        ways[codec] = (packing.context, codec == "checkpoint", packing.warm)
    found = step_times(task, task.large, ways, rounds)
    for codec in wanted:
        ratios = [a / b for a, b in zip(found[codec], found["exact"], strict=True)]
        results.add("time", task=task.name, codec=codec, ratios=ratios, exact_s=found["exact"])
        print(f"{task.name} {codec}: {sorted(ratios)[len(ratios) // 2]:.2f} x the step", flush=True)


def measure(options: argparse.Namespace, tasks: list[str], codecs: list[str]) -> Results:
    """All that was asked for and is not there yet."""
    results = Results(options.results, options.resume)
    kinds = options.only.split(",") if options.only else KINDS
    for name in tasks:
        task = TASKS[name]
        if "time" in kinds:
            times(task, [*codecs, "checkpoint"], 2 if options.quick else options.rounds, results)
        for codec in ["exact", *codecs, "checkpoint"]:
            if "memory" in kinds:
                memory(task, codec, results)
    for seed in range(options.seeds if "run" in kinds else 0):  # a run cut off has all codecs
        for name in tasks:
            task = TASKS[name]
            for codec in ["exact", *codecs]:
                run(task, codec, seed, QUICK if options.quick else task.steps, results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default=",".join(TASKS), help="of cnn, vit, lm, gnn")
    parser.add_argument("--codec", default=",".join(CODECS), help="names, with commas between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7, help="steps that are timed")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK} steps, one seed: does it run?"
    )
    parser.add_argument("--only", help="of run, memory, time, with commas between; or show")
    parser.add_argument("--results", type=Path, help="a file of JSON lines to keep results in")
    parser.add_argument("--resume", action="store_true", help="keep what the file has")
    parser.add_argument("--json", type=Path, help="a file for the rows of all tables")
    parser.add_argument("--plots", type=Path, help="a folder for the plots")
    options = parser.parse_args()
    tasks, codecs = options.task.split(","), options.codec.split(",")
    for name in tasks:
        if name not in TASKS:
            parser.error(f"unknown task {name!r}; there are {', '.join(TASKS)}")
    for kind in options.only.split(",") if options.only else ():
        if kind not in (*KINDS, "show"):
            parser.error(f"unknown measurement {kind!r}; there are {', '.join(KINDS)}, show")
    for codec in codecs:
        try:
            way(codec)
        except (ValueError, TypeError) as error:
            parser.error(str(error))
    if options.quick:
        options.seeds = 1
    torch.set_num_threads(1)
    results = measure(options, tasks, codecs)
    for name in tasks:
        print(f"\n## {name}\n\n{table(results, name, TASKS[name].metric)}")
    if options.json:
        found = [row for name in tasks for row in rows(results, name, TASKS[name].metric)]
        options.json.write_text(json.dumps(found, indent=1))
    if options.plots:
        from training_bench.plots import plot_all

        plot_all(results, {name: TASKS[name].metric for name in tasks}, options.plots)


if __name__ == "__main__":
    main()
