"""What the commands share to talk to a person: sizes, tables, progress."""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fewbits.quantities import size as size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Lines that are not for a terminal are as long as they are: scripts cut them, wrapping breaks them.
_UNBOUNDED = 10_000
_PROGRESS_AFTER_S = 1.0

Advance = Callable[[int], None]


def stdout() -> "Console":
    """Standard output; plain and never wrapped if it is not a terminal."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(
            file=sys.stdout, highlight=False, markup=False, width=_UNBOUNDED, color_system=None
        )
    return console


def drawing_width(console: "Console") -> int:
    """Columns for a picture: the terminal's, or 80."""
    return min(console.width, 160) if console.is_terminal else 80


def show(console: "Console", item: "RenderableType") -> None:
    """Print a table or text; without trailing spaces where nobody would see their colour."""
    if console.is_terminal:
        console.print(item)
        return
    with console.capture() as capture:
        console.print(item)
    text = "\n".join(line.rstrip() for line in capture.get().split("\n"))
    console.file.write(text)


def print_json(value: Any) -> None:
    """One JSON document on standard output; numbers that JSON does not know become null."""
    print(json.dumps(_finite(value), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def printable(text: str) -> str:
    """Text from a file, with what could steer a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plural(count: int, noun: str) -> str:
    """``1 tensor``, ``2 tensors``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


@contextmanager
def progress(
    label: str, total: int, *, quiet: bool = False, steps: bool = False
) -> Iterator[Advance]:
    """A bar on standard error, by bytes or steps, for work that takes more than a second.

    Only where standard error is a terminal; it is gone when the work is done.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        *([MofNCompleteColumn()] if steps else [DownloadColumn(), TransferSpeedColumn()]),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )
    task = bar.add_task(label, total=total or None)
    # A timer, not a look at the clock in between: the first tensor may be the one that takes long.
    timer = threading.Timer(_PROGRESS_AFTER_S, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda count: bar.advance(task, count)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
