"""``unroll``: from text to a step, what it says, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fewbits.unroll import models

from .conftest import Run

NET = """# A small net
let batch = 4 check=2
input x batch 3 16 16
input y batch below=5
c = conv2d x out=8 kernel=3 padding=1
r = relu c
p = maxpool2d r kernel=2
d = conv2d p out=8 kernel=3 padding=1
t = tanh d
f = flatten t
l = linear f out=5
loss = cross_entropy l y
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.txt"
    path.write_text(NET)
    return path


def test_a_step_is_written_and_checked(net: Path, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("torch")
    done = run("unroll", net, "-o", tmp_path / "step.py", "--codec", "int4")
    assert done.code == 0, done
    assert "gradients agree with autograd" in done.out and "(at batch=2)" in done.out
    assert "cosine to the exact gradients" in done.out and "as planned" in done.out
    assert "def training_step(parameters, x, y):" in (tmp_path / "step.py").read_text()
    assert "exists; --force" in run("unroll", net, "-o", tmp_path / "step.py").err


def test_without_torch_what_needs_none_works(net: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from fewbits.cli.main import main; "
    code += f"print(main(['unroll', {str(net)!r}, '--no-check']), file=sys.stderr); "
    code += f"print(main(['unroll', {str(net)!r}]), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.count("def training_step") == 1
    first, message, second = ran.stderr.strip().split("\n")
    assert (first, second) == ("0", "1") and "need PyTorch" in message


def test_faults_show_the_place(net: Path, run: Run) -> None:
    net.write_text(NET.replace("padding=1\nr", "pading=1\nr"))
    failed = run("unroll", net, "--no-check")
    assert failed.code == 1 and failed.out == ""
    line, caret, message = failed.err.rstrip().split("\n")
    assert line == "  c = conv2d x out=8 kernel=3 pading=1" and caret.index("^") == line.index(
        "pading"
    )
    assert message.endswith(
        "net.txt:5:29: conv2d has no attribute 'pading' (did you mean 'padding'?)"
    )


def test_json_and_budgets(net: Path, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("torch")
    numbers = ("batch=8", "size=64", "width=8", "classes=10")
    model = ("resnet18", *(word for number in numbers for word in ("--set", number)))
    whole = json.loads(run("unroll", *model, "--json", "--no-check").out)
    assert whole["resting_bytes"] == whole["resting_bytes_before"] > 0
    limit = f"{whole['peak_bytes'] * 0.9 / 1000}kB"
    found = json.loads(run("unroll", *model, "--json", "--codec", "int4", "--budget", limit).out)
    assert found["fits"] and found["peak_bytes"] < whole["peak_bytes"] and found["check"]["ok"]
    plenty = json.loads(run("unroll", *model, "--json", "--budget", "1GB", "--no-check").out)
    assert plenty["note"].startswith("nothing needs compressing")
    failed = run("unroll", net, "-o", tmp_path / "no.py", "--codec", "int4", "--budget", "1kB")
    assert failed.code == 1 and "does not fit" in failed.out
    assert not (tmp_path / "no.py").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give one MODEL"),
        (["nothing"], 1, "included are: gpt, graph, resnet18"),
        (["nothing.txt"], 1, "nothing.txt: No such file"),
        (["resnet18", "--budget", "lots"], 2, "no amount of memory"),
        (["resnet18", "--set", "batch"], 2, "expected NAME=NUMBER"),
        (["resnet18", "--set", "batsh=3"], 1, "(did you mean 'batch'?)"),
        (["resnet18", "--plot", "x.gif"], 2, "must end in .png"),
        (["resnet18", "--from-print", "x"], 2, "give one MODEL"),
    ],
)
def test_wrong_uses_get_one_line(arguments: list[str], code: int, message: str, run: Run) -> None:
    failed = run("unroll", *arguments, "--no-check")
    assert failed.code == code and failed.out == ""
    assert message in failed.err and failed.err.count("\n") == 1


def test_lists(run: Run) -> None:
    listed = run("unroll", "--list-ops").out
    assert "conv2d x out=int kernel=ints stride=1 padding=0 dilation=1 groups=1 bias=yes" in listed
    assert "concat xs ... dim=1" in listed
    assert json.loads(run("unroll", "--list-ops", "--json").out)["relu"]["arguments"] == ["x"]
    assert run("unroll", "--list-models").out.count("\n") == len(models.names()) == 7


def test_weights_of_an_import_go_along(tmp_path: Path, run: Run) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    from fewbits.unroll.verify import load

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(8 * 64, 5),
    )  # fmt: skip
    x, y = torch.randn(4, 3, 16, 16), torch.randint(5, (4,))
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "net.pt2")
    text, weights, step = (tmp_path / name for name in ("net.txt", "net.safetensors", "step.py"))
    imported = ("--from-export", tmp_path / "net.pt2", "--loss", "cross_entropy")
    done = run("unroll", *imported, "-o", text, "--weights", weights)
    assert done.code == 0, done
    assert "exists; --force" in run("unroll", *imported, "--weights", weights).err
    done = run("unroll", text, "--weights", weights, "-o", step, "--codec", "int8")
    assert done.code == 0 and "gradients agree" in done.out, done
    names, parameters = load(step.read_text()), load_file(weights)
    torch.testing.assert_close(names["forward"](parameters, x, y)[0], module(x))
    loss, gradients = names["training_step"](parameters, x, y)
    exact = torch.nn.functional.cross_entropy(module(x), y)
    exact.backward()
    torch.testing.assert_close(loss, exact.detach())
    torch.testing.assert_close(gradients["_4.bias"], module[4].bias.grad)

    save_file({**parameters, "_4.bias": torch.zeros(6)}, weights)
    refused = run("unroll", text, "--weights", weights)
    assert refused.code == 1 and "'_4.bias' is 6 in the weights, and 5 in the model" in refused.err
    save_file({"_4.bios": torch.zeros(5)}, weights)
    refused = run("unroll", text, "--weights", weights)
    assert "no parameter '_4.bios' (did you mean '_4.bias'?)" in refused.err
    assert refused.err.count("\n") == 1 and refused.out == ""
    (tmp_path / "tree").write_text(str(module))
    printed = ("--from-print", tmp_path / "tree", "--input", "4x3x16x16")
    assert "a printed tree has none" in run("unroll", *printed, "--weights", tmp_path / "w").err


def test_an_import_is_written_as_text(tmp_path: Path, run: Run) -> None:
    torch = pytest.importorskip("torch")
    tree = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    (tmp_path / "tree.dump").write_text(str(tree))
    options = ("--from-print", tmp_path / "tree.dump", "--input", "2x3", "--loss", "mse")
    assert run("unroll", *options, "-o", tmp_path / "net.txt").code == 0
    assert "m0 = linear x out=4\nm1 = relu m0\n" in (tmp_path / "net.txt").read_text()
    program = torch.export.export(tree, (torch.randn(2, 3),))
    torch.export.save(program, tmp_path / "net.pt2")
    assert (
        "training_step" in run("unroll", "--from-export", tmp_path / "net.pt2", "--loss", "mse").out
    )
