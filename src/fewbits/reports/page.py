"""A study as one HTML page that stands alone: nothing is loaded from anywhere."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constant
from fewbits.studies import Claim, Study, Table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem;
  color: #222; background: #fff }
h1 { font-size: 1.7rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
.table { overflow-x: auto } table { border-collapse: collapse; font-size: 0.9rem }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left;
  vertical-align: top }
th { border-bottom: 2px solid #888 } td.n { text-align: right; font-variant-numeric: tabular-nums }
.note { color: #555; font-size: 0.9rem; max-width: 50rem } p { max-width: 50rem }
.yes { color: #1a7f37 } .no { color: #b42318; font-weight: 600 }
"""
_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")


def write_study(study: Study, path: Path) -> None:
    """Write the page; ``FewbitsError`` if Plotly is not installed."""
    path.write_text(page_of(study), "utf-8")


def page_of(study: Study) -> str:
    """The page's text."""
    parts = "\n".join(_parts(study))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(study.title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{parts}\n</body></html>\n"
    )


def _parts(study: Study) -> Iterator[str]:
    yield f"<h1>{escape(study.title)}</h1><p class='note'>{escape(study.source)}</p>"
    yield from (f"<p>{escape(paragraph)}</p>" for paragraph in study.text)
    yield "<h2>The paper's figures and ours</h2>"
    yield _claims(study.claims)
    first = True
    for part in study.parts:
        yield f"<h2>{escape(part.title)}</h2>"
        if isinstance(part, Table):
            yield _table(part.columns, part.rows)
        else:
            yield _plot(part, with_library=first)
            first = False
        if part.note:
            yield f"<p class='note'>{escape(part.note)}</p>"
    if study.constants:
        yield "<h2>Constants</h2>"
        yield _constants(study.constants)


def _table(columns: Any, rows: Any) -> str:
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<div class='table'><table><tr>{head}</tr>{body}</table></div>"


def _cell(value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td class='{'yes' if value else 'no'}'>{'yes' if value else 'NO'}</td>"
    if isinstance(value, int | np.integer):
        return f"<td class='n'>{value:,}</td>"
    if isinstance(value, float | np.floating):
        return f"<td class='n'>{_number(float(value))}</td>"
    return f"<td>{escape(str(value))}</td>"


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.4g}"


def _claims(claims: Any) -> str:
    def row(claim: Claim) -> tuple[Any, ...]:
        low, high = claim.band
        band = f"{low:g} to {high:g}"
        ours = f"{claim.ours:#.3g}{claim.unit}"
        return claim.what, claim.paper, ours, band, claim.holds, claim.setting

    heads = ("", "paper", "here", "band", "inside", "how")
    return _table(heads, [row(claim) for claim in claims])


def _constants(constants: Any) -> str:
    def row(constant: Constant) -> tuple[Any, ...]:
        value = f"{float(np.ravel(constant.value)[0]):.6g}"
        return constant.name, value, constant.unit, constant.kind, constant.source

    return _table(("name", "value", "unit", "kind", "source"), [row(c) for c in constants])


def _plot(part: Any, *, with_library: bool) -> str:
    """A figure as HTML; the first one on a page brings Plotly's script with it."""
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise FewbitsError("a page needs Plotly: pip install 'fewbits[machines]'") from None
    figure = go.Figure()
    part.draw(figure, _COLOURS)
    figure.update_layout(
        template="plotly_white", height=part.height, margin={"l": 60, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}, colorway=_COLOURS,
    )  # fmt: skip
    html = figure.to_html(
        full_html=False, include_plotlyjs=with_library, div_id=None,
        config={"displaylogo": False, "responsive": True},
    )  # fmt: skip
    return str(html)
