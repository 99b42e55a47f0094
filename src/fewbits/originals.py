"""Originals: the plain safetensors file that an archive was made from, restored to the byte.

Where the reference implementation would write another header, the archive keeps the original's.
"""

from fewbits import container
from fewbits.archive import SOURCE_KEY, Archive
from fewbits.container import NAMES, Container, Entry
from fewbits.errors import CorruptError, FewbitsError


def source_container(archive: Archive) -> Container:
    """The safetensors file that an archive unpacks to, as its header.

    It is the original's own text if the archive kept it, else as the reference implementation
    writes it. ``FewbitsError`` for a tensor whose dtype a safetensors file cannot hold,
    ``CorruptError`` if the text it kept does not describe the tensors.
    """
    order = [entry.name for entry in archive.container.in_file_order]
    plain, reached = {}, 0
    for name in order:
        tensor = archive[name]
        dtype = NAMES.get(tensor.dtype.name) if tensor.dtype.isnative else None
        if dtype is None:
            raise FewbitsError(
                f"{archive.path}: tensor {name!r}: a safetensors file cannot hold {tensor.dtype}; "
                "fewbits.load can read it"
            )
        plain[name] = Entry(name, dtype, tensor.shape, reached, reached + tensor.nbytes)
        reached += tensor.nbytes
    entries = tuple(plain[name] for name in archive)
    kept = (archive.container.metadata or {}).get(SOURCE_KEY)
    if kept is None:
        text = container.header_text(entries, archive.metadata)
        return Container(entries, archive.metadata, text)
    file = container.with_prefix(kept.encode("utf-8"))
    try:
        found = container.parse(lambda start, stop: file[start:stop], len(file) + reached)
    except CorruptError as error:
        raise CorruptError(f"{archive.path}: kept header: {error}") from None
    for entry, mine in zip(found.in_file_order, plain.values(), strict=False):
        same_type = entry.dtype not in container.DTYPES or entry.dtype == mine.dtype
        if (entry.name, entry.start, entry.stop) != (
            mine.name,
            mine.start,
            mine.stop,
        ) or not same_type:
            raise CorruptError(f"{archive.path}: kept header does not describe {mine.name!r}")
    return found


def original_header(found: Container) -> str | None:
    """What an archive must keep of a plain file's header to restore it; None if nothing."""
    known = all(entry.dtype in container.DTYPES for entry in found.entries)
    if known and container.header_text(found.entries, found.metadata) == found.text:
        return None
    return found.text.decode("utf-8")
