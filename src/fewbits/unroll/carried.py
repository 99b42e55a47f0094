"""The functions of ``helpers.py`` and its like that a generated file carries with it.

Where a function has a second form, ``NAME_portable``, the portable profile takes that.
"""

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_MODULES = ("helpers.py", "codec_helpers.py", "fixedrate_helpers.py")
_CALL = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)\(")


@cache
def _library() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Functions that a file may carry: their source, and the names they call."""
    found = {}
    for module in _MODULES:
        text = (_HERE / module).read_text("utf-8")
        for item in ast.parse(text).body:
            if isinstance(item, ast.FunctionDef | ast.ClassDef):
                source = ast.get_source_segment(text, item) or ""
                found[item.name] = (source, tuple(_CALL.findall(source)))
    return found


def called(body: str, profile: str) -> Iterable[str]:
    """The functions that a body calls, and those that they call."""
    library = _library()
    wanted, waiting = [], list(dict.fromkeys(_CALL.findall(body)))
    while waiting:
        name = waiting.pop(0)
        if name in library and name not in wanted:
            wanted.append(name)
            waiting += [_form(call, profile) for call in library[name][1]]
    for name in wanted:
        head, _, rest = library[name][0].partition("\n")
        yield f"{head}\n{in_profile(rest, profile)}"


def is_taken(name: str) -> bool:
    """Would a variable of this name hide a function that a file carries?"""
    return name in _library() or name.startswith(("compress_", "decompress_"))


def in_profile(code: str, profile: str) -> str:
    """The code with calls of functions that have another form for the profile turned to that."""
    if profile != "portable":
        return code
    return _CALL.sub(lambda match: f"{_form(match[1], profile)}(", code)


def _form(name: str, profile: str) -> str:
    other = f"{name}_portable"
    return other if profile == "portable" and other in _library() else name
