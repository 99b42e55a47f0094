"""What was measured, one JSON object a line, so that a run that was cut off goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

Record = dict[str, Any]


class Results:
    """Records of finished measurements; each is known by ``kind`` and the fields in `KEYS`."""

    KEYS = ("task", "codec", "seed", "steps")

    def __init__(self, path: Path | None, resume: bool) -> None:
        self.path, self.records = path, []
        if path and path.exists() and resume:
            self.records = [json.loads(line) for line in path.read_text().splitlines()]
        elif path:
            path.write_text("")

    def find(self, kind: str, **wanted: Any) -> Iterator[Record]:
        """The records of a kind with these fields."""
        for record in self.records:
            if record["kind"] == kind and all(record.get(k) == v for k, v in wanted.items()):
                yield record

    def done(self, kind: str, **wanted: Any) -> bool:
        """Is there such a record?"""
        return any(self.find(kind, **wanted))

    def add(self, kind: str, **record: Any) -> Record:
        """Keep one, in the file at once."""
        self.records.append({"kind": kind, **record})
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(self.records[-1]) + "\n")
        return self.records[-1]

    def names(self, field: str) -> list[str]:
        """The values that a field has, in the order in which they came."""
        return list(dict.fromkeys(record[field] for record in self.records if field in record))


def rows(results: Results, task: str, metric: str) -> Iterator[Record]:
    """One row for each codec of a task, with what there is: what the tables and plots show."""
    exact = [run["metric"] for run in results.find("run", task=task, codec="exact")]
    spread = stdev(exact) if len(exact) > 1 else 0.0
    better = 1 if metric == "accuracy" else -1
    for codec in results.names("codec"):
        row: Record = {"task": task, "codec": codec}
        runs = list(results.find("run", task=task, codec=codec))
        if runs and exact:
            found = [run["metric"] for run in runs]
            row |= {"runs": len(runs), "metric": mean(found)}
            row |= {"std": stdev(found)} if len(found) > 1 else {}
            row["gain"] = better * (row["metric"] - mean(exact))
            row["gain_stds"] = row["gain"] / spread if spread else 0.0
            row["ratio"] = mean(run["ratio"] for run in runs)
            scores = [run["score"] for run in runs if run.get("score") is not None]
            row |= {"score": mean(scores)} if scores else {}
        memory = next(results.find("memory", task=task, codec=codec), None)
        row |= {"held": memory["held"], "peak": memory["peak"]} if memory else {}
        times = [
            t for record in results.find("time", task=task, codec=codec) for t in record["ratios"]
        ]
        row |= {"time": median(times)} if times else {}
        if len(row) > 2:
            yield row


#: Head, field, format, and what the value is divided by.
COLUMNS = (
    ("seeds", "runs", "d", 1),
    ("", "metric", ".3f", 1),
    ("std", "std", ".3f", 1),
    ("better than exact", "gain", "+.3f", 1),
    ("in its std", "gain_stds", "+.1f", 1),
    ("ratio", "ratio", ".2f", 1),
    ("score", "score", ".3f", 1),
    ("held, MB", "held", ".1f", 1e6),
    ("peak, MB", "peak", ".1f", 1e6),
    ("step time", "time", ".2f", 1),
)


def table(results: Results, task: str, metric: str) -> str:
    """The rows of a task, as Markdown."""
    heads = [head or metric for head, *_ in COLUMNS]
    lines = ["| codec | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    # Exact first, then by ratio; last what was not trained with.
    for row in sorted(rows(results, task, metric), key=lambda row: row.get("ratio", 1e9)):
        cells = [_number(row.get(field), form, scale) for _, field, form, scale in COLUMNS]
        lines.append(f"| {row['codec']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None, form: str, scale: float) -> str:
    if value is None:
        return ""
    return format(value if scale == 1 else value / scale, form)
