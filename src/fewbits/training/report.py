"""What happened to each saved tensor, for people and for programs."""

from dataclasses import dataclass
from typing import Any

import torch

from fewbits.lossy.codec import Codec
from fewbits.lossy.names import name_of
from fewbits.quantities import size
from fewbits.training.scope import PARAMETER


@dataclass(slots=True)
class Row:
    """One tensor that an operation saved.

    ``before`` is what autograd would have kept for it, ``after`` what is kept; both count a tensor
    that several operations save where it was saved first. What others hold counts as 0.
    """

    op: str
    module: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    before: int
    after: int
    codec: Codec | None = None
    note: str = ""
    fidelity: float | None = None
    key: str = ""

    @property
    def codec_name(self) -> str:
        """The codec, or ``-`` where the tensor was left alone."""
        return "-" if self.codec is None else short_name(self.codec)

    @property
    def whose(self) -> str:
        """The operation, and the module where there is one."""
        return f"{self.op} in {self.module}" if self.module else self.op

    def to_dict(self) -> dict[str, Any]:
        """The row in types that JSON knows."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        dtype = str(self.dtype).removeprefix("torch.")
        return plain | {"shape": list(self.shape), "dtype": dtype, "codec": self.codec_name}


@dataclass(frozen=True)
class Report:
    """Every saved tensor of a packed forward pass, in order.

    ``compiled`` are those of the graphs that ``torch.compile`` made under this policy, as they were
    traced; which graphs ran is not known, so they are in no total but their own.
    """

    rows: tuple[Row, ...]
    compiled: tuple[Row, ...] = ()

    @property
    def before(self) -> int:
        """Bytes that autograd would have kept."""
        return sum(row.before for row in self.rows)

    @property
    def after(self) -> int:
        """Bytes that are kept: codes, scales, masks, indices, and what was left alone."""
        return sum(row.after for row in self.rows)

    @property
    def ratio(self) -> float:
        """`before` through `after`."""
        return self.before / self.after if self.after else 1.0

    @property
    def score(self) -> float | None:
        """The mean fidelity, weighted by bytes; None if none was measured."""
        measured = [(row.before, row.fidelity) for row in self.rows if row.fidelity is not None]
        weight = sum(before for before, _ in measured)
        return sum(b * f for b, f in measured) / weight if weight else None

    def to_dict(self) -> dict[str, Any]:
        """Totals and rows in types that JSON knows."""
        totals = {"before": self.before, "after": self.after, "ratio": self.ratio}
        tables = {"tensors": self.rows, "compiled": self.compiled}
        rows = {name: [row.to_dict() for row in table] for name, table in tables.items()}
        return totals | {"score": self.score} | rows

    def __str__(self) -> str:
        head = ("op", "module", "shape", "dtype", "before", "after", "codec", "fidelity", "note")
        shown = [row for row in self.rows if row.note != PARAMETER]
        lines = [head, *(_cells(row) for row in (*shown, *self.compiled))]
        if not any(row.fidelity is not None for row in self.rows):
            lines = [(*line[:7], line[8]) for line in lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        score = "" if self.score is None else f", mean fidelity {self.score:.3f}"
        total = f"{size(self.before)} in {size(self.after)}: {self.ratio:.2f}x{score}"
        alone = len(self.rows) - len(shown)
        total += f" (parameters and buffers: {alone}, left alone)" if alone else ""
        text.append(total)
        if self.compiled:
            graphs = Report(self.compiled)
            held = f"{size(graphs.before)} in {size(graphs.after)}: {graphs.ratio:.2f}x"
            text.append(f"in compiled graphs, where they run: {held}")
        return "\n".join(text)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.op,
        row.module,
        "x".join(map(str, row.shape)) or "scalar",
        str(row.dtype).removeprefix("torch."),
        size(row.before) if row.before else "",
        size(row.after) if row.after else "",
        row.codec_name,
        "" if row.fidelity is None else f"{row.fidelity:.3f}",
        row.note,
    )


def short_name(codec: Codec) -> str:
    """The codec's name; for codecs without one, that no policy can ask for, their kind."""
    stages: tuple[Codec, ...] = getattr(codec, "stages", (codec,))
    return "+".join(name_of(stage).split("(")[0].lower() for stage in stages)
