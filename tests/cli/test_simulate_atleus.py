import json

import pytest

pytest.importorskip("scipy")
pytest.importorskip("networkx")


def test_a_report_says_time_energy_heat_and_wear(run):
    done = run("simulate", "atleus", "--config", "bert-large", "--tokens", "512", "--mode",
               "finetune", "--rank", "32", "--bits", "M8F4", "--explain")  # fmt: skip
    assert done.code == 0
    head = done.out.splitlines()[0]
    assert head == "bert_large, a step of fine-tuning on 512 tokens, batch 1, M8F4 on Atleus"
    for part in ("91.4 % of the products run on ReRAM", "49152 of 73728 crossbars",
                 "no cell is written", "hottest core", "read_s", "ISAAC", "given"):  # fmt: skip
        assert part in done.out


def test_json_has_all_of_it(run):
    done = run("simulate", "atleus", "--config", "gpt2-medium", "--tokens", "64", "--json")
    found = json.loads(done.out)["results"][""]
    assert found["extra"]["crossbars_needed"] == 73728
    assert len(found["layers"]) == 24
    assert found["latency_s"] == pytest.approx(sum(row["latency_s"] for row in found["layers"]))


def test_pictures_are_drawn(run, tmp_path):
    pytest.importorskip("matplotlib")
    names = {"--figure": "r.png", "--thermal-map": "t.svg", "--floor-plan": "f.png",
             "--pipeline": "p.pdf"}  # fmt: skip
    options = [word for option, name in names.items() for word in (option, tmp_path / name)]
    done = run("simulate", "atleus", "--config", "minilm", "--tokens", "64", *options)
    assert done.code == 0, done.err
    assert all((tmp_path / name).stat().st_size > 1000 for name in names.values())


def test_baselines_stand_beside(run):
    done = run("simulate", "atleus", "--config", "gpt2", "--tokens", "64", "--baselines")
    assert "HAIMA-like" in done.out and "4 systolic tiers, 16 bits" in done.out


def test_constants_can_be_set_and_swept(run, tmp_path):
    out = tmp_path / "sweep.csv"
    done = run("simulate", "atleus", "--config", "gpt2", "--tokens", "64", "--set", "batch=2",
               "--sweep", "read_s=1e-8,1e-7", "-o", out)  # fmt: skip
    assert done.code == 1 and "no constant is called 'batch'" in done.err
    done = run("simulate", "atleus", "--config", "gpt2", "--tokens", "64",
               "--sweep", "read_s=1e-8,1e-7", "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    rows = out.read_text().splitlines()
    assert len(rows) == 3
    times = [float(row.split(",")[rows[0].split(",").index("latency_s")]) for row in rows[1:]]
    assert times[0] < times[1]


def test_networks_are_designed_into_a_folder(run, tmp_path):
    pytest.importorskip("pymoo")
    pytest.importorskip("matplotlib")
    done = run("simulate", "atleus", "--config", "minilm", "--tokens", "32", "--json",
               "--design-noc", "--generations", "2", "--population", "4",
               "-o", tmp_path / "noc")  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["evaluations"] == 8
    assert {row["name"] for row in found["front"]} >= {"mesh", "curves", "network-01"}
    assert (tmp_path / "noc" / "network-01.anynet").exists()


@pytest.mark.parametrize(
    ("options", "fault", "code"),
    [
        (["--config", "bert-lagre"], "did you mean 'bert_large'", 1),
        (["--config", "llama-3-8b"], "the weights do not fit: 1703936 crossbars of 73728", 1),
        (["--bits", "M8"], "no bits such as 8 or M8F4", 1),
        (["--bits", "0"], "attention_bits: 0 must be at least 1", 1),
        (["--bits", "M17F4"], "attention_bits: 17 must be at least 1 and at most 16", 1),
        (["--tokens", "600"], "600 tokens, but bert_large has 512 positions", 1),
        (["--mode", "decode"], "an encoder", 1),
        (["--mode", "finetune", "--targets", "qq"], "no matrix is called 'qq'", 1),
        (["--mode", "train"], "'train' is not one of", 2),
        (["--set", "cell_bits=9"], "cell_bits: 9 must be at least 1 and at most 4", 1),
        (["--set", "systolic_place=9"], "systolic_place: 9 of a stack of 4 tiers", 1),
        (["--thermal-map", "map.txt"], "must end in .png", 2),
    ],
)
def test_wrong_uses_take_one_line(fails, options, fault, code):
    assert fault in fails("simulate", "atleus", *options, code=code)
