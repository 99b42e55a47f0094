"""Other descriptions of models, written as text models.

An import gives the text and, where the source has them, the weights under the text's names.
"""

from pathlib import Path

from fewbits.errors import FewbitsError
from fewbits.unroll.importers.writer import Imported


def text_from_file(
    kind: str, path: Path, *, input_shape: str | None = None, loss: str | None = None
) -> Imported:
    """Import a file: ``onnx``, ``export`` (a .pt2 of torch.export), or ``print``."""
    if kind == "print":
        from fewbits.unroll.importers.printed import from_printed

        if input_shape is None:
            raise FewbitsError(
                f"{path}: a printed tree does not tell its input; give --input SIZES"
            )
        return from_printed(path.read_text("utf-8"), _sizes(input_shape), loss=loss, file=path.name)
    if input_shape is not None:
        raise FewbitsError("--input is for --from-print; this file tells its inputs")
    if kind == "onnx":
        from fewbits.unroll.importers.onnx import from_onnx

        return from_onnx(path, loss=loss)
    from fewbits.unroll.importers.exported import from_exported, load_exported

    return from_exported(load_exported(path), loss=loss)


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise FewbitsError(f"{text!r} are no sizes such as 32x3x224x224")
    return tuple(map(int, parts))
