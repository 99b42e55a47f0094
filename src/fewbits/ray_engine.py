"""Workers of a Ray cluster.

* Ray starts the task of a worker that died again by itself, three times.
* Ray runs tasks of functions that workers can import: Fewbits must be installed on all machines.
* Reports go through an actor, a small process in the cluster that holds them until they are taken.
"""

import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from fewbits.engines import Engine, Result, Task, Work
from fewbits.errors import FewbitsError


@contextmanager
def cluster(workers: int | None, threads: int) -> Iterator[Engine]:
    """The cluster that is there (``RAY_ADDRESS``), else one on this machine while the block lasts.

    ``FewbitsError`` if the package is missing, Ray does not start, or no machine has ``threads``
    processors.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = signal.getsignal(signal.SIGTERM)  # Ray has a handler of its own
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise FewbitsError("the engine ray needs the package Ray: pip install ray") from None
    ours = not ray.is_initialized()
    try:
        if ours:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise FewbitsError(f"Ray does not start: {reason}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    try:
        room = int(ray.cluster_resources().get("CPU", 0)) // threads
        if not room:
            raise FewbitsError(f"no machine in the Ray cluster has {threads} processors")
        engine = _Ray(ray, workers or room, threads)
        try:
            yield engine
        except BaseException:
            engine.stop()
            raise
        engine.close()
    finally:
        if ours:
            ray.shutdown()


class _Ray:
    """Tasks on a Ray cluster, each on as many processors as it has threads."""

    def __init__(self, ray: Any, workers: int, threads: int) -> None:
        self.workers, self._ray = workers, ray
        errors = ray.exceptions
        self.died = (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError)
        self._do = ray.remote(_do_on_ray).options(num_cpus=threads)
        self._board = ray.remote(_Board).options(num_cpus=0).remote()
        self._seen: set[tuple[Any, ...]] = set()
        self._refs: set[Any] = set()  # of what is not done; a ref keeps its result in memory

    def submit(self, work: Work[Task, Result], task: Task) -> "Future[Result]":
        ref = self._do.remote(self._board, work, task)
        self._refs.add(ref)
        future: Future[Result] = Future()

        def settle(got: "Future[Result]") -> None:
            self._refs.discard(ref)
            error = got.exception()
            if error:
                future.set_exception(self._raised(error))
            else:
                future.set_result(got.result())

        ref.future().add_done_callback(settle)
        return future

    def _raised(self, error: BaseException) -> BaseException:
        """What a task raised; Ray's own class has the worker's trace in its text."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, BaseException):
            return cause
        if isinstance(error, self.died) or not isinstance(error, self._ray.exceptions.RayError):
            return error
        return FewbitsError(f"Ray: {(str(error).splitlines() or [type(error).__name__])[0]}")

    def reports(self) -> list[tuple[Any, ...]]:
        """What is new: a task that was started again reports the same once more."""
        new = [v for v in self._ray.get(self._board.take.remote()) if v not in self._seen]
        self._seen.update(new)
        return new

    def stop(self) -> None:
        """End the tasks that still run, and wait until they have."""
        running = list(self._refs)
        for ref in running:
            self._ray.cancel(ref, force=True)
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=10)
        self.close()

    def close(self) -> None:
        """Let go of what the cluster holds for this run."""
        self._ray.kill(self._board)


class _Board:
    """An actor that holds reports until they are taken."""

    def __init__(self) -> None:
        self._values: list[tuple[Any, ...]] = []

    def add(self, values: tuple[Any, ...]) -> None:
        self._values.append(values)

    def take(self) -> list[tuple[Any, ...]]:
        values, self._values = self._values, []
        return values


def _do_on_ray(board: Any, work: Work[Task, Result], task: Task) -> Result:
    ray = sys.modules["ray"]
    sent: list[Any] = []
    result = work(task, lambda *values: sent.append(board.add.remote(values)))
    ray.get(sent)  # none may arrive after the result
    return result
