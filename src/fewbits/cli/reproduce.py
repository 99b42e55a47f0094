"""``fewbits reproduce``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbits.cli import console
from fewbits.cli.errors import EXIT_FAILURE, about
from fewbits.cli.options import Force, Json, Quiet

if TYPE_CHECKING:
    from fewbits.studies import Study

EXAMPLE = "fewbits reproduce apack -o apack.html"


def reproduce(
    paper: Annotated[
        str | None,
        typer.Argument(metavar="PAPER", help="Which one; none lists them.", show_default=False),
    ] = None,
    dst: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="The page (default: PAPER.html here).",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remake a paper's figures: its numbers beside ours, as one page that stands alone.

    Exits with 1 if a figure leaves the band that is stated for it.
    """
    from fewbits import studies
    from fewbits.errors import FewbitsError

    if paper is None:
        print("\n".join(studies.names()))
        return
    entry = studies.load(paper)
    page = dst or Path(f"{paper}.html")
    if page.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{page}: must end in .html")
    if page.exists() and not force:
        raise FewbitsError(f"{page}: exists; --force replaces it")
    from fewbits.reports.page import write_study

    with console.progress(f"reproducing {paper}", entry.steps, quiet=quiet, steps=True) as advance:
        study = entry.run(advance)
    with about(str(page)):
        write_study(study, page)
    if as_json:
        console.print_json(_document(study, page))
    elif not quiet:
        _tell(study, page)
    if not study.holds:
        raise typer.Exit(EXIT_FAILURE)


def _document(study: "Study", page: Path) -> dict[str, Any]:
    from fewbits.studies import Table

    return {
        "study": study.name,
        "title": study.title,
        "holds": study.holds,
        "page": str(page),
        "claims": [claim.to_dict() for claim in study.claims],
        "tables": [part.to_dict() for part in study.parts if isinstance(part, Table)],
        "constants": [constant.to_dict() for constant in study.constants],
    }


def _tell(study: "Study", page: Path) -> None:
    from rich.table import Table

    print(study.title)
    table = Table(box=None, pad_edge=False)
    for head in ("", "paper", "here", "band", ""):
        table.add_column(head, justify="right" if head in ("paper", "here", "band") else "left")
    for claim in study.claims:
        low, high = claim.band
        table.add_row(
            claim.what,
            claim.paper,
            f"{claim.ours:#.3g}{claim.unit}",
            f"{low:g}..{high:g}",
            "" if claim.holds else "OUTSIDE",
        )
    console.show(console.stdout(), table)
    print(f"{console.printable(str(page))}: the figures, the constants, and what they rest on")
