"""Engines: workers that do tasks for this process, here or on a Ray cluster.

A task is done by ``work(task, report)``: ``work`` a function that workers can import, ``report`` a
function it may call with values for the process that waits. ``local_engine.py`` and
``ray_engine.py`` hold the workers there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, TypeVar

from fewbits.errors import FewbitsError
from fewbits.threads import default_threads

EngineName = Literal["local", "ray"]
Report = Callable[..., None]
Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task, Report], Result]

_POLL_S = 0.1
_END = object()


class Engine(Protocol):
    """Workers that are there."""

    @property
    def workers(self) -> int:
        """How many tasks are done at once."""
        ...

    @property
    def died(self) -> tuple[type[BaseException], ...]:
        """Exceptions of a future that say its worker died."""
        ...

    def submit(self, work: Work[Task, Result], task: Task) -> "Future[Result]":
        """Have a task done."""
        ...

    def reports(self) -> list[tuple[Any, ...]]:
        """What workers reported since this was last asked."""
        ...


def open_engine(
    name: EngineName, workers: int | None, threads: int | None
) -> AbstractContextManager[Engine | None]:
    """The engine of that name while the block lasts; None if this process does the work itself.

    ``workers``: None is none for ``local`` and as many as the cluster has room for with ``ray``.
    ``threads``: how many each task uses; None as ``threads_of`` says. ``ValueError`` for fewer than
    one worker or an unknown name, ``FewbitsError`` if Ray is not there.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if name == "ray":
        from fewbits.ray_engine import cluster

        return cluster(workers, threads_of(name, workers, threads) or 1)
    if name != "local":
        raise ValueError(f"unknown engine {name!r}: local or ray")
    if (workers or 1) == 1:
        return nullcontext()
    from fewbits.local_engine import pool

    return pool(workers or 1)


def threads_of(name: EngineName, workers: int | None, threads: int | None) -> int | None:
    """Threads a task uses where nobody said: with workers, their share of the processors."""
    if threads is not None or (name == "local" and (workers or 1) == 1):
        return threads
    return 1 if name == "ray" else max(1, default_threads() // (workers or 1))


def each(
    engine: Engine | None,
    work: Work[Task, Result],
    tasks: Iterable[Task],
    report: Report,
    *,
    ahead: int | None = None,
) -> Iterator[Result]:
    """Results in the order of the tasks; at most ``ahead`` tasks are begun and not yet taken.

    The first exception of any task is raised at once. ``FewbitsError`` if a worker died, with the
    tasks it may have been doing.
    """
    if engine is None:
        yield from (work(task, report) for task in tasks)
        return
    waiting, handed = iter(tasks), deque[tuple[Task, Future[Result]]]()
    more = True
    try:
        while True:
            running = [task for task, future in handed if not future.done()]
            # One more than there are workers waits its turn, so that none of them does.
            while more and len(running) <= engine.workers and len(handed) < (ahead or 1 << 62):
                task: Any = next(waiting, _END)
                more = task is not _END
                if more:
                    running.append(task)
                    handed.append((task, engine.submit(work, task)))
            wait({f for _, f in handed if not f.done()}, _POLL_S, "FIRST_COMPLETED")
            done = [future for _, future in handed if future.done()]
            for values in engine.reports():
                report(*values)
            for future in done:
                if future.exception():
                    future.result()
            while handed and handed[0][1].done():
                yield handed.popleft()[1].result()
            if not (more or handed):
                return
    except engine.died:
        lost = [str(task) for task, f in handed if not f.done() or f.exception()]
        raise FewbitsError(
            f"a worker died (killed, or out of memory) at work on {' or '.join(lost)}"
        ) from None
