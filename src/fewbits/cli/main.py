"""The command ``fewbits``: its subcommands, and one line for everything that can go wrong."""

import os
import sys
from typing import Annotated

import typer

from fewbits.cli import (
    bench,
    demo,
    inspect,
    pack,
    reproduce,
    rtl,
    simulate,
    trace,
    unpack,
    unroll,
    verify,
)
from fewbits.cli.errors import (
    EXIT_FAILURE,
    EXIT_TERMINATED,
    EXIT_USAGE,
    UsageError,
    describe,
    notes,
    terminable,
)

app = typer.Typer(
    name="fewbits",
    help="Tensors in few bits: pack models losslessly, near their entropy.",
    epilog="Start with:  fewbits demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command, example in (
    (pack.pack, pack.EXAMPLE),
    (unpack.unpack, unpack.EXAMPLE),
    (verify.verify, verify.EXAMPLE),
    (inspect.inspect, inspect.EXAMPLE),
    (demo.demo, demo.EXAMPLE),
    (bench.bench, bench.EXAMPLE),
    (unroll.unroll, unroll.EXAMPLE),
    (trace.trace, trace.EXAMPLE),
    (reproduce.reproduce, reproduce.EXAMPLE),
    (rtl.rtl, rtl.EXAMPLE),
):
    paragraphs = (command.__doc__ or "").split("\n\n")
    app.command(
        help="\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs),
        epilog=f"Example:  {example}",
    )(command)
app.add_typer(simulate.simulate)


def _print_version(asked: bool) -> None:
    if asked:
        from fewbits import __version__

        print(f"fewbits {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run ``fewbits`` with these arguments (default: the process's own); returns the exit code.

    0: done. 1: it failed. 2: it was asked wrongly. 130 and 143: interrupted, terminated.
    """
    # A name that the terminal cannot show must not end the command.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with terminable():
            command = typer.main.get_command(app)
            code = command.main(arguments, prog_name="fewbits", standalone_mode=False)
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return EXIT_FAILURE
    except UsageError as error:
        return _fail(f"{error.format_message()} (see fewbits --help)", EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort) as stop:
        return _fail(f"interrupted{notes(stop)}", 130)
    except SystemExit as stop:
        if stop.code == EXIT_TERMINATED:
            return _fail(f"terminated{notes(stop)}", EXIT_TERMINATED)
        return stop.code if isinstance(stop.code, int) else EXIT_FAILURE
    except Exception as error:
        if os.environ.get("FEWBITS_DEBUG"):
            raise
        if isinstance(error, OSError):
            _drop_output()
        return _fail(describe(error), EXIT_FAILURE)
    if code == 130:
        return _fail("interrupted", 130)
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Forget output that nobody can take, or the interpreter complains when it flushes at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    line = " ".join(message.splitlines())
    print(f"fewbits: error: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
