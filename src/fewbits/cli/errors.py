"""What went wrong, in one line that names the file."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_TERMINATED = 143

# Typer exports only this descendant of the class that all wrong uses of a command line share.
UsageError: Any = typer.BadParameter.__base__


@contextmanager
def about(src: str, dst: str | None = None) -> Iterator[None]:
    """Name the file in errors that do not: a full disk names none, memory neither."""
    from fewbits.errors import FewbitsError

    try:
        yield
    except FewbitsError:
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        name = error.filename
        if name is None or ".partial" in str(name):
            name = dst or src  # the temporary name would tell nobody anything
        raise FewbitsError(f"{name}: {error.strerror or error}") from error
    except MemoryError as error:
        raise FewbitsError(f"{src}: not enough memory") from error
    except KeyboardInterrupt as stop:
        raise typer.Abort from stop  # Typer would make an exit code of it, and lose its notes


def notes(error: BaseException | None) -> str:
    """What errors have to add, such as where a later run finds what is done."""
    found: list[str] = []
    while error:
        found += getattr(error, "__notes__", ())
        error = error.__cause__
    return "".join(f"; {note}" for note in found)


def describe(error: Exception) -> str:
    """One line for an error, wherever it came from."""
    return _fault(error) + notes(error)


def _fault(error: Exception) -> str:
    from fewbits.errors import FewbitsError

    if isinstance(error, FewbitsError):
        return str(error)
    if isinstance(error, OSError):
        # Files are named by `about`; what is left is the output.
        return f"{error.filename or 'standard output'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return (
        f"unexpected {type(error).__name__}: {error}; this is a bug in Fewbits "
        "(FEWBITS_DEBUG=1 shows where)"
    )


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that nothing partial stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
