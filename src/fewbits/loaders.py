"""safetensors, and what is built on it, reads packed files: ``install()``.

Whatever reads safetensors files in Python goes through two functions of that library: ``safe_open``
for files, ``deserialize`` for bytes. Those two are all that is replaced, in every module that holds
them. A plain file gets what the original returns; a packed one a ``PackedFile``.

>>> import numpy as np, os, tempfile, fewbits
>>> from safetensors.numpy import load_file
>>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
>>> fewbits.save({"w": np.arange(3)}, path)
>>> with install():
...     load_file(path)
{'w': array([0, 1, 2])}
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Protocol, Self

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors import SafetensorError

from fewbits import archive, container
from fewbits.archive import OWN_KEYS, Archive
from fewbits.container import Entry
from fewbits.frame import PackedTensor
from fewbits.frameworks import converter, converts
from fewbits.originals import source_container
from fewbits.sources import MemoryFile
from fewbits.values.types import to_storage

original_open: Any = safetensors.safe_open
original_deserialize: Any = safetensors.deserialize

# Stands in the header of every packed file, near its start, and hardly in that of another.
_MARK = f'"{OWN_KEYS}'.encode()
_HEAD_BYTES = 1 << 16

_lock = Lock()


class Keeper(Protocol):
    """What makes tensors of an archive in its own way: `fewbits.weights` keeps them packed."""

    def entries(self) -> list[Entry]:
        """Names, dtypes and shapes of its tensors, in the order of the file."""
        ...

    def tensor(self, name: str) -> Any:
        """A whole tensor."""
        ...


# While it is set, packed files that are opened for PyTorch give tensors of a keeper.
keeping: ContextVar[Callable[[Archive], Keeper] | None] = ContextVar("keeping", default=None)


def install() -> AbstractContextManager[object]:
    """Let ``safetensors``, and through it Transformers and others, read packed files.

    Names of ``safetensors.safe_open`` and ``safetensors.deserialize`` are replaced in all modules
    that are imported; those imported later find the replacements. Where something else holds the
    originals (a default argument, an attribute of a class), they stay: install before it is there.
    It lasts until ``uninstall()``, or to the end of ``with fewbits.install():``. Installing twice
    changes nothing.
    """
    installed = ExitStack()
    with _lock:
        first = not isinstance(safetensors.safe_open, _SafeOpen)
        _replace({original_open: PackedFile, original_deserialize: _deserialize})
    if first:  # an inner `with` leaves what an outer one installed
        installed.callback(uninstall)
    return installed


def uninstall() -> None:
    """Put the originals back; files that are open stay as they are."""
    with _lock:
        _replace({PackedFile: original_open, _deserialize: original_deserialize})


def _replace(new_of: Mapping[Any, Any]) -> None:
    by_id = {id(old): new for old, new in new_of.items()}
    for module in list(sys.modules.values()):
        # By its type: some that only claim to be modules, such as cffi's, have no names to replace.
        if issubclass(type(module), ModuleType) and module is not sys.modules[__name__]:
            # Around the module's own attribute access, on which lazy modules import themselves.
            names = object.__getattribute__(module, "__dict__")
            for name, value in list(names.items()):
                if id(value) in by_id:
                    names[name] = by_id[id(value)]


class _SafeOpen(type):
    """Calls of ``PackedFile``: they go where the file belongs."""

    def __call__(
        cls, filename: str | os.PathLike[str], framework: str, device: Any = "cpu", **options: Any
    ) -> Any:
        arguments = {"framework": framework, "device": device, **options}
        try:
            # A packed file is a safetensors file, so the original checks all arguments.
            original = original_open(filename, **arguments)
            if not any(key.startswith(OWN_KEYS) for key in original.metadata() or {}):
                return original
        except SafetensorError:
            _refuse_if_packed(filename)
            raise
        return super().__call__(filename, arguments)

    def __instancecheck__(cls, instance: object) -> bool:
        # What callers may ask of either kind of handle: isinstance(handle, safetensors.safe_open).
        return super().__instancecheck__(instance) or isinstance(instance, original_open)


class PackedFile(metaclass=_SafeOpen):
    """What ``safetensors.safe_open`` returns for a packed file: tensors of the caller's framework.

    Called like ``safe_open``; for a plain file the result is the original's. Errors are the
    original's too, but for ``CorruptError``, naming file and tensor, if a packed file is damaged.
    """

    def __init__(self, filename: str | os.PathLike[str], arguments: Mapping[str, Any]) -> None:
        self._archive: Archive | None = archive.open(Path(filename))
        self._arguments = arguments
        keep = keeping.get() if arguments["framework"] in ("pt", "torch") else None
        self._keeper = keep(self._archive) if keep is not None else None
        if self._keeper is not None:
            entries = self._keeper.entries()
            self._metadata: Mapping[str, str] | None = self._archive.metadata
        else:
            found = source_container(self._archive)
            entries, self._metadata = found.in_file_order, found.metadata
        self._entries = {entry.name: entry for entry in entries}

    def keys(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self.offset_keys())

    def offset_keys(self) -> list[str]:
        """Names of the tensors in the order of the file that was packed."""
        self._opened()
        return list(self._entries)

    def metadata(self) -> dict[str, str] | None:
        """The metadata of the file that was packed."""
        self._opened()
        return None if self._metadata is None else dict(self._metadata)

    def get_tensor(self, name: str) -> Any:
        """A whole tensor."""
        return self._reader(name).whole()

    def get_tensors(self) -> dict[str, Any]:
        """All tensors by name."""
        return {name: self.get_tensor(name) for name in self.offset_keys()}

    def get_slice(self, name: str) -> "PackedSlice":
        """A tensor to take parts of; it may be used after the file is closed."""
        return PackedSlice(self._reader(name))

    def _opened(self) -> Archive:
        if self._archive is None:
            raise SafetensorError("File is closed")
        return self._archive

    def _reader(self, name: str) -> "_Reader":
        opened = self._opened()
        if name not in self._entries:
            raise SafetensorError(f"File does not contain tensor {name}")
        tensor = opened[name]
        assert isinstance(tensor, PackedTensor)
        return _Reader(self._entries[name], tensor, self._arguments, self._keeper)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Slices may still read, as the original's may: the last of them lets the file go.
        self._archive = None


@dataclass(frozen=True)
class _Reader:
    """One tensor, on its way into a framework; ``arguments`` are those of ``safe_open``."""

    entry: Entry
    tensor: PackedTensor
    arguments: Mapping[str, Any]
    keeper: Keeper | None = None

    def whole(self) -> Any:
        if self.keeper is not None:
            return self.keeper.tensor(self.entry.name)
        if not self._converts:
            return self._by_original().get_tensor(self.entry.name)
        return self._convert(self.tensor.unpack())

    def part(self, key: Any) -> Any:
        if self.keeper is not None:
            return self.whole()[key] if key is not ... else self.whole()
        if not self._converts:
            return self._by_original().get_slice(self.entry.name)[key]
        # Elements that do not follow each other are copied, which lets go of those between them.
        return self._convert(np.asarray(self.tensor[key], order="C"))

    @property
    def _converts(self) -> bool:
        return converts(self.arguments["framework"]) and self.entry.dtype in container.DTYPES

    def _convert(self, array: NDArray[Any]) -> Any:
        try:
            found = converter(self.arguments["framework"])(array)
        except TypeError as error:
            raise TypeError(f"{self.tensor.context}: {error}") from None
        # The original has refused other devices for all frameworks but PyTorch.
        device = self.arguments["device"]
        return found if device in (None, "cpu") else found.to(device)

    def _by_original(self) -> Any:
        """The original's handle on a file in memory that holds this tensor alone, unpacked.

        For the frameworks and dtypes that are left to safetensors to convert.
        """
        data = to_storage(self.tensor.unpack())
        header = container.header_text([replace(self.entry, start=0, stop=len(data))], None)
        with os.fdopen(os.memfd_create("fewbits"), "wb") as file:
            file.write(container.with_prefix(header))
            file.write(data.data)
            file.flush()
            return original_open(f"/proc/self/fd/{file.fileno()}", **self.arguments)


@dataclass(frozen=True)
class PackedSlice:
    """A tensor of a packed file that decodes what is asked of it: what ``get_slice`` returns."""

    _reader: _Reader

    def get_shape(self) -> list[int]:
        """The tensor's shape."""
        return list(self._reader.entry.shape)

    def get_dtype(self) -> str:
        """The tensor's dtype by its name in safetensors, such as ``BF16``."""
        return self._reader.entry.dtype

    def __getitem__(self, key: Any) -> Any:
        """Elements as NumPy indexes them; a leading slice or integer decodes only what it needs."""
        return self._reader.part(key)


def _deserialize(data: bytes) -> Any:
    """``safetensors.deserialize``, which its ``load`` functions call, for packed files too."""
    header_bytes = int.from_bytes(data[: container.PREFIX_BYTES], "little")
    if _MARK not in data[: container.PREFIX_BYTES + header_bytes]:
        return original_deserialize(data)
    with Archive("bytes", MemoryFile(data)) as opened:
        if not opened.packed:
            return original_deserialize(data)
        tensors = []
        for entry in source_container(opened).in_file_order:
            tensor = opened[entry.name]
            assert isinstance(tensor, PackedTensor)
            raw = {"shape": list(entry.shape), "dtype": entry.dtype}
            tensors.append((entry.name, raw | {"data": to_storage(tensor.unpack()).data}))
        return tensors


def _refuse_if_packed(path: str | os.PathLike[str]) -> None:
    """``CorruptError`` if a file that safetensors cannot open is a packed one, damaged."""
    with suppress(OSError), Path(path).open("rb") as file:
        if _MARK in file.read(_HEAD_BYTES):
            archive.open(Path(path)).close()
