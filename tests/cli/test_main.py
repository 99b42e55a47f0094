"""The program as a whole: help, version, start-up, and output that scripts can read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fewbits

from .conftest import Run

COMMANDS = ("pack", "unpack", "verify", "inspect", "demo", "bench")


def test_version(run: Run) -> None:
    assert run("--version").out == f"fewbits {fewbits.__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(arguments: tuple[str, ...], run: Run) -> None:
    result = run(*arguments)
    assert result.code == 0
    assert all(re.search(rf"\b{command}\b", result.out) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example(command: str, run: Run) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"Example:  fewbits {command} " in result.out


def test_help_does_not_wait_for_numpy() -> None:
    code = (
        "import sys; from fewbits.cli.main import main; main(['pack', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'ml_dtypes', 'fsspec')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("options", [(), ("--table", "layer.0.weight")])
def test_piped_output_is_plain_and_not_wrapped(
    packed: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    long = tmp_path / ("long" * 50)
    long.mkdir()
    moved = packed.rename(long / packed.name)
    done = subprocess.run(
        [sys.executable, "-m", "fewbits.cli.main", "inspect", str(moved), *options],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "", "COLUMNS": "40", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "\x1b" not in done.stdout
    if not options:
        assert done.stdout.startswith(f"{moved}: 10 tensors")
        assert len(done.stdout.splitlines()) == 1 + 1 + 10 + 1  # file, titles, tensors, total
    assert not any(line != line.rstrip() for line in done.stdout.splitlines())


def test_an_error_in_a_pipe_is_not_wrapped(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 50) / "missing.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "fewbits.cli.main", "verify", str(path)],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "", "COLUMNS": "40"},
    )
    assert done.returncode == 1
    assert done.stderr == f"fewbits: error: {path}: no such file or folder\n"
