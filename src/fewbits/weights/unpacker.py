"""Unpacks weights when they are needed, the next one while this one computes.

Two are unpacked at a time: the one that was asked for last, and the one that came after it last
time. What comes next is told by the last two weights, since a backward pass goes through the same
ones the other way.
"""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from fewbits import _kernels
from fewbits.lossy.backend import has_triton
from fewbits.threads import processors, resolve_threads
from fewbits.torch_threads import share_torch_threads
from fewbits.weights.packed import Packed, naming
from fewbits.weights.quantized import Quantized
from fewbits.weights.scratch import Scratch
from fewbits.weights.settings import Settings, settings_of

if TYPE_CHECKING:
    from fewbits.weights.triton_rans import DeviceWeight


@dataclass
class Counts:
    """What an unpacker did since it was made or reset."""

    unpacked: int = 0
    unpacked_bytes: int = 0
    unpack_s: float = 0.0  # on whichever thread
    waited_s: float = 0.0  # that the computation waited for a weight
    prefetched: int = 0  # that were there, or on their way, when they were asked for
    kept: int = 0  # that were in the cache, or the last one again
    fused: int = 0  # products of which no weight was unpacked


class Unpacker:
    """The unpacked weights of one model: scratch, the one in use, the next one, and the cache."""

    def __init__(self, settings: Settings) -> None:
        share_torch_threads()
        self.settings = settings
        self.scratch = Scratch()
        self.counts = Counts()
        self.cache_bytes = settings.cache_bytes
        self.prefetches = settings.prefetch
        if self.prefetches is None:
            self.prefetches = processors() > torch.get_num_threads()
        self._checked: WeakSet[Packed] = WeakSet()
        self._lock = threading.Lock()
        self._cache: dict[Packed, torch.Tensor] = {}
        self._current: tuple[Packed, torch.Tensor] | None = None
        self._coming: tuple[Packed, Future[torch.Tensor]] | None = None
        self._last: tuple[Packed | None, Packed | None] = (None, None)
        self._next: dict[tuple[Packed | None, Packed | None], Packed] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._devices: dict[tuple[Packed, torch.device], DeviceWeight | None] = {}

    def plan(self, weights: Iterable[Packed]) -> None:
        """Divide the memory limit; `ValueError` where not even one weight can be unpacked."""
        limit = self.settings.memory_bytes
        weights = list(weights)
        if limit is None or not weights:
            return
        packed = sum(weight.packed_bytes for weight in weights)
        tile = self.settings.tile_bytes
        most = max(min(w.scratch_bytes, tile or w.scratch_bytes) for w in weights)
        if packed + most > limit:
            raise ValueError(
                f"the weights take {packed} bytes packed and {most} for the largest one unpacked, "
                f"together more than the limit of {limit}"
            )
        left = limit - packed - most
        self.prefetches = self.prefetches and left >= most
        self.cache_bytes = left - most if self.prefetches else left

    def unpacked(self, weight: Packed) -> torch.Tensor:
        """The weight in scratch that stays as it is for as long as the tensor is in use."""
        with self._lock:
            tensor = self._held(weight)
            if tensor is not None:
                self.counts.kept += 1
                coming = None
            else:
                coming, self._coming = self._coming, None
                self._current = None  # its scratch is free, if nothing uses it
        if tensor is None:
            started = time.perf_counter()
            if coming is not None and coming[0] is weight:
                self.counts.prefetched += 1
                tensor = coming[1].result()
            else:
                del coming
                tensor = self._unpack(weight, self.settings.threads)
            self.counts.waited_s += time.perf_counter() - started
        with self._lock:
            self._keep(weight, tensor)
            self._foresee(weight)
        return tensor

    def unpacked_on(self, weight: Packed, device: torch.device) -> torch.Tensor:
        """The weight on another device: decoded there if Triton can, else copied from the CPU."""
        key = (weight, device)
        if key not in self._devices:
            # The CPU checks all checksums once, before a weight is used on the device.
            plain = self.unpacked(weight).to(device)
            self._devices[key] = None
            if device.type == "cuda" and has_triton():
                self._devices[key] = _on_device(weight, device)
            return plain
        there = self._devices[key]
        if there is None:
            return self.unpacked(weight).to(device)
        with naming(weight.name):
            return self._timed(there.unpack)

    def on_device(self, weight: Packed, device: torch.device) -> "DeviceWeight | None":
        """The weight as Triton decodes it on a device; None where it does not (yet)."""
        return self._devices.get((weight, device))

    def rows(self, weight: Packed, low: int, high: int) -> torch.Tensor:
        """Rows low..high of a weight, or of what is there of it."""
        with self._lock:
            tensor = self._held(weight)
        if tensor is not None:
            return tensor[low:high]
        threads, verify = self.settings.threads, self.verifies(weight)
        return self._timed(lambda: weight.rows(low, high, self.scratch, threads, verify))

    def verifies(self, weight: Packed) -> bool:
        """Whether checksums of a weight are to be checked."""
        verify = self.settings.verify
        return weight not in self._checked if verify == "once" else verify

    def was_read(self, weight: Packed) -> None:
        """Note that all of a weight was read without a fault."""
        if self.settings.verify == "once":
            self._checked.add(weight)

    def release(self) -> None:
        """Let go of all that is unpacked, the cache included, and forget the order of weights."""
        with self._lock:
            self._cache.clear()
            self._current = self._coming = None
            self._last, self._next = (None, None), {}
            self._devices.clear()
        self.scratch.clear()

    @property
    def device_bytes(self) -> int:
        """Bytes of frames that rest on other devices."""
        return sum(weight.nbytes for weight in self._devices.values() if weight is not None)

    @property
    def cached_bytes(self) -> int:
        """Bytes of weights in the cache."""
        with self._lock:
            return sum(tensor.nbytes for tensor in self._cache.values())

    def _held(self, weight: Packed) -> torch.Tensor | None:
        if self._current is not None and self._current[0] is weight:
            return self._current[1]
        return self._cache.get(weight)

    def _keep(self, weight: Packed, tensor: torch.Tensor) -> None:
        if weight in self._cache:
            return
        self._current = (weight, tensor)
        # What came first stays: of weights that come round in a circle, one that made room for
        # the next would never be there again.
        if sum(kept.nbytes for kept in self._cache.values()) + tensor.nbytes <= self.cache_bytes:
            self._cache[weight] = tensor.clone()  # in memory of just its size
            self._current = None

    def _foresee(self, weight: Packed) -> None:
        """Note that this weight came, and begin to unpack the one that should be next."""
        if weight is not self._last[1]:
            self._next[self._last] = weight
            self._last = (self._last[1], weight)
        following = self._next.get(self._last)
        if (
            not self.prefetches
            or following is None
            or self._held(following) is not None
            or (self._coming is not None and self._coming[0] is following)
        ):
            return
        if self._pool is None:
            # Its work runs beside PyTorch's, so not on PyTorch's threads.
            self._pool = ThreadPoolExecutor(
                1, thread_name_prefix="fewbits-unpack", initializer=_kernels.work_apart
            )
        threads = max(1, resolve_threads(self.settings.threads) - 1)
        self._coming = (following, self._pool.submit(self._unpack, following, threads))

    def _unpack(self, weight: Packed, threads: int | None) -> torch.Tensor:
        verify = self.verifies(weight)
        tensor = self._timed(lambda: weight.unpack(self.scratch, threads, verify))
        self.was_read(weight)
        return tensor

    def _timed(self, unpack: Any) -> torch.Tensor:
        started = time.perf_counter()
        # Tensors that inference mode makes could not be used outside of it.
        with torch.inference_mode(False), torch.no_grad():
            tensor: torch.Tensor = unpack()
        self.counts.unpack_s += time.perf_counter() - started
        self.counts.unpacked += 1
        self.counts.unpacked_bytes += tensor.nbytes
        return tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return unpacker_of, (asdict(self.settings),)


def unpacker_of(options: dict[str, Any]) -> Unpacker:
    """An unpacker that goes by these options."""
    return Unpacker(settings_of(options))


def _on_device(weight: Packed, device: torch.device) -> "DeviceWeight | None":
    """A lossless weight's frame on the device; None for one that only the CPU decodes."""
    from fewbits.weights.triton_rans import DeviceWeight

    if isinstance(weight, Quantized):
        return None
    try:
        return DeviceWeight(weight.tensor, device)
    except ValueError:
        return None
