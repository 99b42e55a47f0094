"""Tables and figures of a study: what they show, and how Plotly draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows for a reader; cells are text or numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The table in types that JSON knows."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "note": self.note,
        }


@dataclass(frozen=True)
class Bars:
    """A bar chart: for each series a value for each category; None leaves a gap.

    ``line`` draws a horizontal line at a value, with a label.
    """

    title: str
    categories: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    unit: str
    note: str = ""
    stacked: bool = False
    line: tuple[float, str] | None = None

    height = 420

    def draw(self, figure: Any, colours: Sequence[str]) -> None:
        """Onto a ``plotly.graph_objects.Figure``."""
        for name, values in self.series.items():
            figure.add_bar(x=list(self.categories), y=list(values), name=name)
        figure.update_layout(barmode="stack" if self.stacked else "group")
        figure.update_yaxes(title=self.unit)
        figure.update_xaxes(tickangle=-60 if len(self.categories) > 8 else 0)
        if self.line is not None:
            figure.add_hline(y=self.line[0], line_dash="dot", annotation_text=self.line[1])


@dataclass(frozen=True)
class Lines:
    """A line chart: for each series its points (x, y)."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    x: str
    y: str
    note: str = ""
    log_x: bool = False
    log_y: bool = False
    line: tuple[float, str] | None = None

    height = 420

    def draw(self, figure: Any, colours: Sequence[str]) -> None:
        """Onto a ``plotly.graph_objects.Figure``."""
        for name, points in self.series.items():
            xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
            figure.add_scatter(x=xs, y=ys, name=name, mode="lines+markers")
        figure.update_xaxes(title=self.x, type="log" if self.log_x else "linear")
        figure.update_yaxes(title=self.y, type="log" if self.log_y else "linear")
        if self.line is not None:
            figure.add_hline(y=self.line[0], line_dash="dot", annotation_text=self.line[1])


@dataclass(frozen=True)
class Spans:
    """A Gantt chart: spans (row, start, end, kind) in one unit of time."""

    title: str
    spans: Sequence[tuple[str, float, float, str]]
    unit: str
    note: str = ""

    @property
    def height(self) -> int:
        """Pixels: as many rows as there are."""
        return 140 + 30 * len({row for row, *_ in self.spans})

    def draw(self, figure: Any, colours: Sequence[str]) -> None:
        """Onto a ``plotly.graph_objects.Figure``."""
        for kind in dict.fromkeys(kind for *_, kind in self.spans):
            chosen = [span for span in self.spans if span[3] == kind]
            figure.add_bar(
                y=[row for row, *_ in chosen],
                x=[end - start for _, start, end, _ in chosen],
                base=[start for _, start, _, _ in chosen],
                orientation="h",
                name=kind,
            )
        figure.update_layout(barmode="overlay")
        figure.update_yaxes(autorange="reversed")
        figure.update_xaxes(title=self.unit)


Figure = Bars | Lines | Spans
