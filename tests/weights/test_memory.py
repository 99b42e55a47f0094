"""What Linux says a process holds: packed weights, scratch of a few layers, and no more."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed")

PROGRAM = """
import json, sys, torch, fewbits
from pathlib import Path
from fewbits import weights

torch.set_num_threads(1)

def held(key):
    status = Path("/proc/self/status").read_text()
    return int(status.split(key + ":")[1].split()[0]) * 1024

def model():
    return torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(32))).bfloat16()

with torch.device("meta"):
    found = model()
weights.attach(torch.nn.Linear(128, 128))(torch.zeros(1, 128))  # all that is imported late
before = held("VmRSS")
weights.attach(found, sys.argv[1], threads=1)
with torch.no_grad():
    for _ in range(2):
        found(torch.zeros(1, 1024, dtype=torch.bfloat16))
told = weights.report(found)
print(json.dumps({
    "plain": told.unpacked_bytes + told.plain_bytes,
    "report": told.resident_bytes,
    "after": held("VmRSS") - before,
    "most": held("VmHWM") - before,
}))
"""


def test_a_process_holds_the_packed_weights_and_scratch(tmp_path):
    import torch

    import fewbits

    state = {}
    for index in range(32):
        state[f"{index}.weight"] = (torch.randn(1024, 1024) * 0.02).to(torch.bfloat16)
        state[f"{index}.bias"] = torch.zeros(1024, dtype=torch.bfloat16)
    path = tmp_path / "m.safetensors"
    fewbits.save(state, path)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    found = json.loads(ran.stdout)
    assert found["plain"] == 32 * (1 << 21) + 32 * 2048
    assert found["report"] <= 0.76 * found["plain"]  # two or three layers of 32 are scratch
    # Tables of the frames, and what PyTorch's kernels take for themselves, come on top.
    assert found["most"] <= 0.85 * found["plain"], found
    assert found["after"] >= 0.6 * found["plain"]
