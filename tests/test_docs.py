"""The pages do what they say: their code runs, and prints what they show.

A page runs from top to bottom in a folder of its own, which holds ``model.safetensors``, the demo's
language model. Its Python blocks share one namespace. Of its shell blocks those run that start with
one of ``RUN``, with or without a prompt. ``<!-- not run -->`` before a block leaves it out.

Output that a page shows must be what came: that of a Python block in a ``text`` block right after
it, that of a command below its ``$`` line. ``...`` stands for anything, and times may differ.
``python tests/test_docs.py`` writes what came into the pages, except into blocks that do not run.
"""

import contextlib
import doctest
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

import pytest

import fewbits

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "docs/index.md", "docs/tutorial.md"]
PAGES += sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "guide").glob("*.md"))
# Pages that need more than the tests do; without it they are left out.
NEEDS = {
    "docs/guide/frameworks.md": ("torch", "transformers", "jax"),
    "docs/guide/atleus.md": ("torch", "scipy", "networkx", "plotly"),
    "docs/guide/choosing-a-codec.md": ("torch",),
    "docs/guide/exact-activations.md": ("torch",),
    "docs/guide/machines.md": ("torch",),
    "docs/guide/packed-fine-tuning.md": ("torch", "transformers", "peft"),
    "docs/guide/packed-weights.md": ("torch", "transformers"),
    "docs/guide/silicon.md": ("amaranth", "pyosys"),
    "docs/guide/training.md": ("torch",),
    "docs/guide/ipu.md": ("plotly",),
    "docs/guide/unroll.md": ("torch",),
    "docs/guide/wafer.md": ("networkx", "plotly", "scipy", "torch"),
}
MODEL = Path(fewbits.__file__).parent / "data" / "language_model.safetensors"

NOT_RUN = "<!-- not run -->"
SHELLS = ("console", "bash", "sh", "shell")
RUN = ("fewbits ", "cp ", "cmp ")
ELSE = "...\n"
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^\$ ([^\n]*\n)((?:(?!\$ )[^\n]*\n)*)", re.MULTILINE)
TIME = re.compile(r"\b\d+\.\d s\b")

Span = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """Code or a command of a page: where it is, and where its output is shown if it is."""

    code: Span
    python: bool
    shown: Span | None


def steps(page: str) -> Iterator[Step]:
    """What is to be run, in order."""
    fences = list(FENCE.finditer(page))
    for fence, after in zip_longest(fences, fences[1:]):
        if page[: fence.start()].rstrip().endswith(NOT_RUN):
            continue
        if fence[1] == "python":
            follows = after and after[1] == "text" and not page[fence.end() : after.start()].strip()
            yield Step(fence.span(2), True, after.span(2) if follows else None)
        elif fence[1] in SHELLS and fence[2].removeprefix("$ ").startswith(RUN):
            if not fence[2].startswith("$ "):
                yield Step(fence.span(2), False, None)
                continue
            for command in PROMPT.finditer(page, *fence.span(2)):
                yield Step(command.span(1), False, command.span(2) if command[2] else None)


def run(page: str, name: str, folder: Path) -> Iterator[tuple[Step, str]]:
    """Each step with what it printed."""
    shutil.copy(MODEL, folder / "model.safetensors")
    namespace = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for step in steps(page):
            code, line = page[slice(*step.code)], page.count("\n", 0, step.code[0]) + 1
            if step.python:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)
                yield step, trimmed(printed.getvalue())
            else:
                yield step, trimmed(shell(code, f"{name}:{line}"))


def shell(command: str, where: str) -> str:
    """Run a command that must succeed; what it printed."""
    environment = {name: value for name, value in os.environ.items() if "COLOR" not in name}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    environment["PYTHONIOENCODING"] = "utf-8"
    ran = subprocess.run(
        ["bash", "-euc", command],
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        encoding="utf-8",
    )
    assert ran.returncode == 0, f"{where}: exit code {ran.returncode}\n{ran.stdout}"
    return ran.stdout


def missing(name: str) -> list[str]:
    """Packages that a page needs and that are not there."""
    return [package for package in NEEDS.get(name, ()) if find_spec(package) is None]


def trimmed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def agree(shown: str, came: str) -> bool:
    shown, came = (TIME.sub("T s", text) for text in (shown, came))
    return doctest.OutputChecker().check_output(shown, came, doctest.ELLIPSIS)


@pytest.mark.parametrize("name", PAGES)
def test_page_runs_as_written(name: str, tmp_path: Path) -> None:
    if absent := missing(name):
        pytest.skip(f"not installed: {', '.join(absent)}")
    page = (ROOT / name).read_text("utf-8")
    for step, came in run(page, name, tmp_path):
        if step.shown and not agree(shown := page[slice(*step.shown)], came):
            line = page.count("\n", 0, step.shown[0]) + 1
            pytest.fail(f"{name}:{line} shows\n{shown}\nbut this came\n{came}", pytrace=False)


def test_steps_are_found() -> None:
    page = (
        "```python\nprint(1)\n```\n\n```text\n1\n```\n\n" + NOT_RUN + "\n```sh\nfewbits x\n```\n"
        "```console\n$ fewbits a\nout\n\nmore\n$ cmp b\n```\n```sh\nfewbits c\nls\n```\n"
    )
    found = [(page[slice(*s.code)], page[slice(*(s.shown or (0, 0)))]) for s in steps(page)]
    assert found == [
        ("print(1)\n", "1\n"),
        ("fewbits a\n", "out\n\nmore\n"),
        ("cmp b\n", ""),
        ("fewbits c\nls\n", ""),
    ]


def updated(page: str, name: str) -> str:
    """The page with the output that came; as many lines around ``...`` as there were."""
    with tempfile.TemporaryDirectory() as folder:
        results = list(run(page, name, Path(folder)))
    for step, came in reversed(results):
        if step.shown is None or agree(page[slice(*step.shown)], came):
            continue
        start, end = step.shown
        head, dots, tail = page[start:end].partition(ELSE)
        if dots:
            lines = came.splitlines(keepends=True)
            first, last = lines[: head.count("\n")], lines[len(lines) - tail.count("\n") :]
            came = "".join([*first, ELSE, *last])
        page = page[:start] + came + page[end:]
    return page


if __name__ == "__main__":
    for path in PAGES:
        if missing(path):
            continue
        (ROOT / path).write_text(updated((ROOT / path).read_text("utf-8"), path), "utf-8")
