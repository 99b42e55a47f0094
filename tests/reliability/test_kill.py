"""``fewbits pack`` killed with SIGKILL at random points never leaves half a file or folder.

``python tests/reliability/test_kill.py 200`` kills so many runs and prints what was found at the
destination after each.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

COMMAND = (sys.executable, "-c", "from fewbits.cli.main import main; raise SystemExit(main())")
Content = dict[str, bytes]  # by path; a file is the one at ""


def content(path: Path) -> Content | None:
    """All that is at a path; None if nothing is."""
    if path.is_file():
        return {"": path.read_bytes()}
    if path.is_dir():
        files = (p for p in path.rglob("*") if p.is_file())
        return {str(p.relative_to(path)): p.read_bytes() for p in files}
    return None


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def write_model(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = {f"layer.{i}": rng.normal(0, 0.02, (1024, 1024)) for i in range(4)}
    save_file({name: array.astype(np.float16) for name, array in weights.items()}, path)


def write_folder(path: Path, seed: int) -> None:
    path.mkdir()
    write_model(path / "model.safetensors", seed)
    (path / "config.json").write_text(f"{{{seed}}}")
    write_model(path / "more.safetensors", seed + 1)


@dataclass(frozen=True)
class Case:
    """A source, and what is at the destination before and must be there after a whole run."""

    source: Path
    target: Path
    before: Content | None
    after: Content

    def reset(self) -> None:
        """Put what was there before at the destination; what killed runs left stays."""
        if self.target.is_dir():
            shutil.rmtree(self.target)
        self.target.unlink(missing_ok=True)
        for name, data in (self.before or {}).items():
            path = self.target / name if name else self.target
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

    def start(self) -> subprocess.Popen[bytes]:
        """Run the command."""
        force = ["--force"] if self.before else []
        arguments = ["pack", str(self.source), "-o", str(self.target), "--quiet", *force]
        return subprocess.Popen([*COMMAND, *arguments])

    def outcome(self) -> str:
        """What is at the destination; ``AssertionError`` if it is neither whole nor nothing."""
        found = content(self.target)
        if found == self.after:
            return "the new one"
        assert found == self.before or found is None, f"half of something at {self.target}"
        return "nothing" if found is None else "the old one"


def cases(work: Path) -> Iterator[Case]:
    """A file and a folder, each to a new destination and over an older one."""
    for make, name in ((write_model, "model.safetensors"), (write_folder, "model")):
        packed: list[Content] = []
        for seed in (1, 5):
            folder = work / f"{name}.{seed}"
            folder.mkdir()
            make(folder / name, seed)
            done = Case(folder / name, folder / f"packed.{name}", None, {})
            assert done.start().wait() == 0
            packed.append(content(done.target) or {})
        for before in (None, packed[0]):
            folder = work / f"{name} over {'nothing' if before is None else 'another'}"
            folder.mkdir()
            yield Case(work / f"{name}.5" / name, folder / f"packed.{name}", before, packed[1])


def time_whole_run(case: Case) -> tuple[float, float]:
    """Seconds until something is being written, and until the end."""
    case.reset()
    started, writing = time.monotonic(), 0.0
    process = case.start()
    while process.poll() is None:
        if not writing and hidden(case.target.parent):
            writing = time.monotonic() - started
        time.sleep(0.001)
    assert process.returncode == 0 and case.outcome() == "the new one"
    return writing, time.monotonic() - started


def kill_once(case: Case, delay: float, *, writing: bool) -> None:
    """Start the command and kill it after so many seconds, counted from when it writes if asked."""
    process, known = case.start(), set(hidden(case.target.parent))
    while writing and process.poll() is None and not set(hidden(case.target.parent)) - known:
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    process.wait()


def run(kills: int) -> tuple[Counter[str], int]:
    """Kill so many runs; what was found at the destinations, and how many left something hidden."""
    rng, seen, left = random.Random(0), Counter[str](), 0
    with tempfile.TemporaryDirectory() as work:
        for number, case in enumerate(cases(Path(work))):
            start, end = time_whole_run(case)
            for kill in range(kills // 4 + (number < kills % 4)):
                case.reset()
                before = len(hidden(case.target.parent))
                if kill % 4:  # most of a run is start-up, where little can go wrong
                    kill_once(case, rng.uniform(0, 1.2 * (end - start)), writing=True)
                else:
                    kill_once(case, rng.uniform(0, 1.2 * end), writing=False)
                seen[case.outcome()] += 1
                assert case.before is None or content(case.target) or hidden(case.target.parent)
                now = len(hidden(case.target.parent))
                left += now > 0
                assert now <= max(before, 2)  # each run clears up before it writes
            case.reset()
            assert case.start().wait() == 0
            assert case.outcome() == "the new one"
            assert not hidden(case.target.parent), "a whole run left something hidden"
    return seen, left


@pytest.mark.slow
def test_a_killed_run_leaves_the_old_the_new_or_nothing():
    seen, left = run(24)
    assert sum(seen.values()) == 24
    assert left


if __name__ == "__main__":
    outcomes, leftovers = run(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    for outcome, times in outcomes.most_common():
        print(f"{times:4} left {outcome} at the destination")
    print(f"{leftovers:4} left something hidden, which the next run removed")
