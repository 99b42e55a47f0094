"""Two processes of DistributedDataParallel: what one process with both batches would do."""

import pytest

torch = pytest.importorskip("torch")

import torch.multiprocessing as processes  # noqa: E402
from torch import distributed  # noqa: E402

from fewbits.training import pack_activations  # noqa: E402
from training.models import Vision, classify, cosine, gradients, images, labels  # noqa: E402

RANKS = 2


def train(rank, folder, codec, steps):
    """Steps of one rank on its part of the batch; saves the gradients of the last."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/{codec}-meeting", rank=rank, world_size=RANKS
    )
    try:
        torch.manual_seed(0)
        model = torch.nn.parallel.DistributedDataParallel(Vision())
        x, y = images()[rank::RANKS], labels()[rank::RANKS]
        for step in range(steps):
            model.zero_grad()
            with pack_activations(codec, min_bytes=1, seed=rank, step=step):
                loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
        found = {name: p.grad for name, p in model.module.named_parameters()}
        torch.save(found, f"{folder}/{codec}-{rank}.pt")
    finally:
        distributed.destroy_process_group()


def run(folder, codec):
    processes.spawn(train, (str(folder), codec, 2), nprocs=RANKS)
    return [torch.load(folder / f"{codec}-{rank}.pt") for rank in range(RANKS)]


@pytest.mark.slow
def test_as_one_process_with_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    model = Vision()
    exact = gradients(model, classify(model))
    for codec, least in (("lossless", 0.9999999), ("int8", 0.999), ("int4-stochastic", 0.97)):
        first, second = run(tmp_path, codec)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert cosine(first, exact) > least


@pytest.mark.slow
def test_ranks_draw_their_own_numbers_and_the_same_ones_again(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = run(tmp_path / "a", "int4-stochastic"), run(tmp_path / "b", "int4-stochastic")
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    torch.manual_seed(0)
    model = Vision()
    by_rank = [
        gradients(model, classify(model), "int4-stochastic", seed=rank, step=1)
        for rank in range(RANKS)
    ]
    assert not torch.equal(*(torch.cat([g.flatten() for g in x.values()]) for x in by_rank))
