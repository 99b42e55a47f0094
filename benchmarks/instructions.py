"""Instructions a byte that the kernels take, counted by Valgrind: a guard that no clock disturbs.

    python benchmarks/instructions.py            # compare with instructions.json; fails on +5 %
    python benchmarks/instructions.py --update   # write that file

Packs and unpacks fixed data on one thread under callgrind, with the portable and the AVX2 kernels,
and counts what runs inside Fewbits' extension module. Valgrind does not know AVX-512, so those
kernels are not guarded; nor does a count see memory or latency: for speed there is speed.py.

Counts depend on the compiler, so the file names the one that it was counted with. If yours is
another, count the commit before your change first (check it out, build it, run with --update), then
build your change and compare; leave instructions.json as it was. Commit a new file where a change
is meant to cost more or saves much, or where the project moves to another compiler.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import fewbits
from fewbits import _kernels

COUNTS = Path(__file__).with_name("instructions.json")
ALLOWED = 1.05
ELEMENTS = 1 << 18
SIMD = ("portable", "avx2")
MARK = "getppid"  # a C function that nothing else calls; callgrind dumps its counts before each


def arrays() -> dict[str, NDArray]:
    """The data, from the generator of NumPy's whose numbers never change."""
    random = np.random.RandomState(0)
    normal = random.standard_normal(ELEMENTS) * 0.02
    laplace = random.laplace(0, 8, ELEMENTS).round().clip(-127, 127).astype(np.int8)
    nibbles = (random.standard_normal(2 * ELEMENTS) * 2.2).round().clip(-7, 7).astype(np.int8)
    return {
        "bf16": normal.astype(ml_dtypes.bfloat16),
        "fp32": normal.astype(np.float32),
        "int8": laplace,
        "int4": nibbles.astype(ml_dtypes.int4),
    }


def work() -> None:
    """What runs under callgrind: each piece of work between two marks."""
    for simd in SIMD:
        _kernels.set_simd(simd)
        for array in arrays().values():
            os.getppid()
            frame = fewbits.pack(array, threads=1)
            os.getppid()
            out = np.empty_like(array)
            fewbits.unpack_into(frame, out, threads=1)
            os.getppid()
            if out.tobytes() != array.tobytes():
                sys.exit("instructions.py: what was unpacked is not what was packed")


def module_cost(dump: Path) -> int:
    """Instructions in Fewbits' module itself that a callgrind dump holds."""
    names: dict[str, str] = {}
    inside, called, cost = False, False, 0
    for line in dump.read_text().splitlines():
        if found := re.match(r"(c?)ob=(\(\d+\))(?: (.*))?", line):
            callee, number, name = found.groups()
            names.setdefault(number, name or "")
            inside = inside if callee else Path(names[number]).name.startswith("_kernels.")
        elif line.startswith("calls="):
            called = True  # the next line is the cost of the call, not of the caller
        elif re.match(r"[\d+*-]", line):
            cost += int(line.split()[-1]) if inside and not called else 0
            called = False
    return cost


def count() -> dict[str, float]:
    """Instructions a byte of each piece of work, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--dump-before={MARK}",
             f"--callgrind-out-file={folder}/out", sys.executable, __file__, "--work"],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            sys.exit(f"instructions.py: valgrind failed:\n{run.stderr[-2000:]}")
        # Dump 1 is what came before the first mark; a third of the others lies between two tensors.
        pieces = [
            (f"{action} {name}, {simd}", array.nbytes)
            for simd in SIMD
            for name, array in arrays().items()
            for action in ("pack", "unpack", "")
        ]
        return {
            piece: module_cost(Path(f"{folder}/out.{number}")) / size
            for number, (piece, size) in enumerate(pieces, start=2)
            if not piece.startswith(" ")
        }


def compiler() -> str:
    """What the module was compiled with, as it says itself."""
    module = Path(_kernels.__file__).read_bytes()
    found = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", module)
    return found[0].decode() if found else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help=f"write {COUNTS.name}")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work()
    if not shutil.which("valgrind"):
        sys.exit("instructions.py: valgrind is not installed; nothing was counted")
    if missing := set(SIMD) - set(_kernels.available_simd()):
        sys.exit(f"instructions.py: this processor lacks {', '.join(missing)}; nothing was counted")
    known = {} if options.update else json.loads(COUNTS.read_text())
    if known and known["compiler"] != compiler():
        sys.exit(
            f"instructions.py: {COUNTS.name} was counted with {known['compiler']}, this build is "
            f"of {compiler()}; what to do then stands at the top of {__file__}"
        )
    counts = {name: round(value, 3) for name, value in count().items()}
    before = known.get("instructions a byte", {})
    for name, value in counts.items():
        change = f"{value / before[name] - 1:+8.1%}" if name in before else ""
        print(f"{name:24}{value:10.3f}{change}")
    if options.update:
        named = {"compiler": compiler(), "instructions a byte": counts}
        COUNTS.write_text(json.dumps(named, indent=2) + "\n")
    elif worse := [n for n, v in counts.items() if v > ALLOWED * before.get(n, 0)]:
        sys.exit(f"instructions.py: more than 5 % above {COUNTS.name}: {'; '.join(worse)}")


if __name__ == "__main__":
    main()
