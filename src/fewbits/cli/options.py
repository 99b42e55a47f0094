"""Arguments and options that several commands have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fewbits.cli.console import Advance


def _not_empty(path: str | None) -> str | None:
    """Refuse ``""``, which would mean the current folder: a script's unset variable, mostly."""
    if path == "":
        raise typer.BadParameter("the path is empty")
    return path


def _none_empty(paths: list[str] | None) -> list[str] | None:
    """The same for an option that may be given several times."""
    for path in paths or ():
        _not_empty(path)
    return paths


_PICTURES = (".png", ".svg", ".pdf")


def picture(path: Path | None) -> Path | None:
    """Refuse a picture's name that could not be drawn, before anything is run."""
    if path is not None and path.suffix.lower() not in _PICTURES:
        raise typer.BadParameter(f"{path}: must end in {', '.join(_PICTURES)}")
    return path


Source = Annotated[
    str,
    typer.Argument(metavar="SRC", help="A file, a folder, or a shard index.", callback=_not_empty),
]
Destination = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DST",
        help="Where the result goes.",
        show_default=False,
        callback=_not_empty,
    ),
]
Base = Annotated[
    list[str] | None,
    typer.Option(
        "--base",
        metavar="BASE",
        help="The checkpoint that changes are taken against (again: the base's own base).",
        show_default=False,
        callback=_none_empty,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace DST if it is there.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, metavar="N", help="Threads to use (default: all).", show_default=False
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Processes to share the work with (default: none; with ray, all the cluster has).",
        show_default=False,
    ),
]


class _Engine(StrEnum):
    LOCAL = "local"
    RAY = "ray"


Engine = Annotated[_Engine, typer.Option(help="Where workers are: this machine, or a Ray cluster.")]
LOCAL = _Engine.LOCAL
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


class Ratios:
    """Follows an operation tensor by tensor: moves the bar, keeps each tensor's ratio."""

    def __init__(self, advance: Advance, *, by_packed: bool) -> None:
        self._advance, self._by_packed = advance, by_packed
        self._ratios: list[float] = []

    def __call__(self, path: str, name: str, plain: int, packed: int) -> None:
        """One tensor is done; a ``fewbits.files.Progress``."""
        self._advance(packed if self._by_packed else plain)
        if plain:
            self._ratios.append(plain / packed)

    @property
    def mean(self) -> float:
        """Mean of the tensors' ratios, each counting the same; 1.0 if there are none."""
        return sum(self._ratios) / len(self._ratios) if self._ratios else 1.0


def total_bytes(src: str) -> int:
    """Bytes of the files a path stands for."""
    from fewbits.folders import tensor_files
    from fewbits.paths import size_of

    return sum(map(size_of, tensor_files(src)))
