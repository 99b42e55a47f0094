"""Schedules against a simulation that takes them step by step, and against closed forms."""

from collections import deque
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbits.machines.ipu.schedules import (
    SCHEDULES,
    make_rounds,
    split,
)
from fewbits.machines.parts.link import ring_all_reduce_bytes

depths, counts = st.integers(1, 7), st.integers(1, 9)
seconds = st.floats(0.1, 9.0)


def step_by_step(order, forward_s, backward_s, rounds_of):
    """Devices with queues and message boxes: seconds of the step, and each device's most in hand.

    In every round a device takes the next task of its queue if the round is its turn, and must find
    its input in its box, sent in an earlier round. All wait until the slowest is done.
    """
    stages = len(order)
    queues = [deque(tasks) for tasks in order]
    boxes = [{("f", m) for kind, m in order[0] if kind == "f"}] + [set() for _ in order[1:]]
    in_hand, most, total, time = [0] * stages, [0] * stages, 0, 0.0
    while any(queues):
        sent, took = [], 0.0
        for stage, queue in enumerate(queues):
            if not queue or rounds_of[stage][queue[0]] != total:
                continue
            kind, micro = queue.popleft()
            assert (kind, micro) in boxes[stage], "its input is not there yet"
            boxes[stage].remove((kind, micro))
            if kind == "f":
                in_hand[stage] += 1
                most[stage] = max(most[stage], in_hand[stage])
                took = max(took, forward_s[stage])
                last = stage == stages - 1
                sent.append((stage, ("b", micro)) if last else (stage + 1, ("f", micro)))
            else:
                in_hand[stage] -= 1
                took = max(took, backward_s[stage])
                if stage:
                    sent.append((stage - 1, ("b", micro)))
        for stage, message in sent:
            boxes[stage].add(message)
        total, time = total + 1, time + took
    assert not any(in_hand) and not any(boxes)
    return time, most


@given(st.sampled_from(SCHEDULES), depths, counts, st.data())
def test_rounds_are_a_schedule_that_runs(schedule, stages, micro_batches, data) -> None:
    rounds = make_rounds(schedule, stages=stages, micro_batches=micro_batches)
    times = st.lists(seconds, min_size=stages, max_size=stages)
    forward, backward = np.array(data.draw(times)), np.array(data.draw(times))
    at = [
        {
            **{("f", m): int(rounds.forward[s, m]) for m in range(micro_batches)},
            **{("b", m): int(rounds.backward[s, m]) for m in range(micro_batches)},
        }
        for s in range(stages)
    ]
    # One thing at a time.
    assert all(len(set(turns.values())) == 2 * micro_batches for turns in at)
    order = [sorted(turns, key=lambda task: turns[task]) for turns in at]
    took, most = step_by_step(order, forward, backward, at)
    assert rounds.durations(forward, backward).sum() == pytest.approx(took)
    assert rounds.stash.tolist() == most


@given(depths, counts, seconds, seconds)
def test_bubbles_of_even_stages(stages, micro_batches, forward, backward) -> None:
    def total(schedule):
        rounds = make_rounds(schedule, stages=stages, micro_batches=micro_batches)
        return rounds.durations(np.full(stages, forward), np.full(stages, backward)).sum()

    both = forward + backward
    filled = (micro_batches + stages - 1) * both
    assert total("gpipe") == pytest.approx(filled)
    assert total("grouped") == pytest.approx(filled)
    assert total("sequential") == pytest.approx(micro_batches * stages * both)
    assert filled - 1e-9 <= total("1f1b") <= 2 * (micro_batches + stages) * max(forward, backward)


@given(depths, counts)
def test_stashes_have_their_closed_forms(stages, micro_batches) -> None:
    behind = stages - np.arange(stages)

    def stash(schedule):
        return make_rounds(schedule, stages=stages, micro_batches=micro_batches).stash.tolist()

    assert stash("1f1b") == np.minimum(micro_batches, behind).tolist()
    assert stash("grouped") == np.minimum(micro_batches, 2 * behind - 1).tolist()
    assert stash("gpipe") == [micro_batches] * stages
    assert stash("sequential") == [1] * stages


def test_bubble_of_four_stages_by_hand() -> None:
    # 4 stages, 8 micro-batches: 3 of 11 rounds wait, as in GPipe's figure.
    rounds = make_rounds("gpipe", stages=4, micro_batches=8)
    assert rounds.bubble(np.ones(4), 2 * np.ones(4)) == pytest.approx(3 / 11)


def test_unknown_schedule() -> None:
    with pytest.raises(ValueError, match="'zigzag' is no schedule; there are: grouped"):
        make_rounds("zigzag", stages=2, micro_batches=2)


@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_all_reduce_moves_what_a_ring_moves(replicas) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (replicas, replicas, 5)).astype(float)  # device, chunk, value
    held, sent = values.copy(), np.zeros(replicas)
    for step in range(2 * (replicas - 1)):
        moving = [(d, (d - step) % replicas) for d in range(replicas)]
        parcels = [held[d, chunk].copy() for d, chunk in moving]
        for (d, chunk), parcel in zip(moving, parcels, strict=True):
            to = (d + 1) % replicas
            held[to, chunk] = held[to, chunk] + parcel if step < replicas - 1 else parcel
            sent[d] += parcel.size
    assert (held == values.sum(axis=0)).all()
    assert sent.tolist() == [ring_all_reduce_bytes(values[0].size, replicas)] * replicas


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9), st.data())
def test_split_is_the_best_there_is(costs, data) -> None:
    stages = data.draw(st.integers(1, len(costs)))
    parts = split(np.array(costs, float), stages)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(costs)))
    assert len(parts) == stages and all(part.stop > part.start for part in parts)
    worst = max(sum(costs[part]) for part in parts)
    bounds = ([0, *cut, len(costs)] for cut in combinations(range(1, len(costs)), stages - 1))
    assert worst == min(max(sum(costs[a:b]) for a, b in pairwise(cut)) for cut in bounds)


def test_too_many_stages() -> None:
    with pytest.raises(ValueError, match="2 operations cannot be cut into 3 stages"):
        split(np.ones(2), 3)
