"""Jobs to give to the machine."""

from fewbits.machines.atleus.machine import Job
from fewbits.machines.atleus.mapping import check_targets
from fewbits.machines.atleus.models import find
from fewbits.machines.atleus.work import Trained


def job(name="bert-large", tokens=512, batch=1, mode="prefill", *, tuning="lora", rank=32,
        targets=("query", "value"), backward="transposed"):  # fmt: skip
    found, net = find(name)
    trained = Trained(tuning, rank, check_targets(targets, net)) if mode == "finetune" else None
    return Job(found, net, tokens, batch, mode, trained, backward)
