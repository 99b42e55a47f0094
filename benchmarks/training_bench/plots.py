"""Pictures of the results: memory over a step, what is lost against the ratio, score over a run."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from training_bench.results import Results, rows

TITLES = {
    "cnn": "residual CNN",
    "vit": "vision transformer",
    "lm": "language model",
    "gnn": "graph network",
}
#: Whose memory is drawn: more lines than these hide each other.
SHOWN = {"exact": "black", "int4": "tab:blue", "auto": "tab:red", "checkpoint": "tab:green"}
EXACT, FRONT, REST = "black", "tab:blue", "0.6"


def plot_all(results: Results, metrics: dict[str, str], folder: Path) -> None:
    """``pareto.png``, ``memory.png`` and ``score.png``; those that there is something for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (("pareto", pareto), ("memory", memory), ("score", score)):
        figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
        drawn = [
            draw(axis, results, task, metric)
            for axis, (task, metric) in zip(axes.flat, metrics.items(), strict=False)
        ]
        for axis in axes.flat[len(metrics) :]:
            axis.set_axis_off()
        if any(drawn):
            figure.savefig(folder / f"{name}.png", dpi=110)
            print(folder / f"{name}.png")
        plt.close(figure)


def pareto(axis: Any, results: Results, task: str, metric: str) -> bool:
    """The metric against the ratio: a point for each codec, its spread over seeds as a bar."""
    found = [row for row in rows(results, task, metric) if "metric" in row]
    axis.set_title(TITLES.get(task, task))
    axis.set_xlabel("bytes saved by autograd / bytes kept")
    axis.set_ylabel("accuracy, %" if metric == "accuracy" else "loss, nats a character")
    if not found:
        return False
    exact = next(row for row in found if row["codec"] == "exact")
    axis.axhline(exact["metric"], color=EXACT, lw=1)
    low, high = (exact["metric"] + sign * exact.get("std", 0.0) for sign in (-1, 1))
    axis.axhspan(low, high, color=EXACT, alpha=0.08, label="exact, one std")
    best = front(found)
    for number, row in enumerate(sorted(found, key=lambda row: row["ratio"])):
        color = EXACT if row["codec"] == "exact" else FRONT if row["codec"] in best else REST
        axis.errorbar(row["ratio"], row["metric"], row.get("std"), fmt="o", color=color, capsize=3)
        axis.annotate(
            row["codec"], (row["ratio"], row["metric"]), color=color, fontsize=8,
            xytext=(5, 6 if number % 2 else -12), textcoords="offset points",
        )  # fmt: skip
    line = sorted((row["ratio"], row["metric"]) for row in found if row["codec"] in best)
    axis.plot(*zip(*line, strict=True), color=FRONT, lw=1, ls=":")
    axis.margins(x=0.12, y=0.2)
    axis.legend(loc="lower left" if metric == "accuracy" else "upper left", fontsize=8)
    return True


def front(found: list[dict[str, Any]]) -> set[str]:
    """The codecs that no other one beats in both: the Pareto front."""
    return {
        row["codec"]
        for row in found
        if not any(
            other["ratio"] >= row["ratio"] and other["gain"] > row["gain"] for other in found
        )
    }


def memory(axis: Any, results: Results, task: str, metric: str) -> bool:
    """Bytes over one step, each stretched to one length; the end of forward is marked."""
    axis.set_title(TITLES.get(task, task))
    axis.set_xlabel("time, forward and backward each stretched to 1")
    axis.set_ylabel("MB above what was there before the step")
    drawn = False
    for record in results.find("memory", task=task):
        if record["codec"] not in SHOWN:
            continue
        ended, line = record["forward_ended"], record["timeline"]
        whole = line[-1][0] - ended
        times = [t / ended if t < ended else 1 + (t - ended) / whole for t, _ in line]
        axis.step(
            times,
            [n / 1e6 for _, n in line],
            where="post",
            lw=1.2,
            label=record["codec"],
            color=SHOWN[record["codec"]],
        )
        drawn = True
    if drawn:
        axis.axvline(1, color="0.8", lw=1)
        axis.legend(fontsize=8)
    return drawn


def score(axis: Any, results: Results, task: str, metric: str) -> bool:
    """Mean fidelity as training went, of the first seed's runs."""
    axis.set_title(TITLES.get(task, task))
    axis.set_xlabel("step")
    axis.set_ylabel("score: mean of 1 - RMSE/std, by bytes")
    drawn = False
    for record in results.find("run", task=task, seed=0):
        if record.get("scores"):
            axis.plot(*zip(*record["scores"], strict=True), label=record["codec"], lw=1.2)
            drawn = True
    if drawn:
        axis.axhline(0.7, color="0.7", lw=1, ls="--")
        axis.set_ylim(0, 1)
        axis.legend(fontsize=8)
    return drawn
