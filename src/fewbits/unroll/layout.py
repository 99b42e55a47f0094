"""Breaks long lines of generated Python at brackets and commas."""

_WIDTH = 100
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def laid_out(source: str) -> str:
    """The source with no line longer than 100 characters, where brackets allow it."""
    return "\n".join(part for line in source.split("\n") for part in _broken(line))


def _broken(line: str) -> list[str]:
    if len(line) <= _WIDTH or line.lstrip().startswith(("#", '"""')):
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    code, mark, comment = line.partition("  # ")
    if mark:
        return [f"{indent}# {comment}", *_broken(code)]
    if code.lstrip().startswith("del "):
        names = code.strip()[4:].split(", ")
        half = len(names) // 2
        halves = (names[:half], names[half:])
        return [part for some in halves for part in _broken(f"{indent}del {', '.join(some)}")]
    span = _last_bracket(code)
    if span is None:
        left, equals, right = code.partition(" = ")
        return [line] if not equals else _broken_wide(indent, left, right)
    start, end = span
    if start >= _WIDTH:
        return _broken_chain(indent, code)
    inner = _split(code[start + 1 : end])
    deeper = indent + "    "
    if len(inner) == 1:
        middle = _broken(deeper + inner[0])
    else:
        middle = [part for item in inner for part in _broken(f"{deeper}{item},")]
    return [code[: start + 1], *middle, f"{indent}{code[end:]}"]


def _broken_wide(indent: str, left: str, right: str) -> list[str]:
    return [f"{left} = (", f"{indent}    {right}", f"{indent})"]


def _broken_chain(indent: str, code: str) -> list[str]:
    """Method calls one after another, each on a line of its own."""
    left, _, right = code.partition(" = ")
    ends, depth = [0], 0
    for index, c in enumerate(right):
        depth += (c in _PAIRS) - (c in _PAIRS.values())
        if c == "." and not depth and right[index - 1] == ")":
            ends.append(index)
    links = [right[a:b] for a, b in zip(ends, [*ends[1:], len(right)], strict=True)]
    if len(links) == 1:
        return [code]
    return [
        f"{left} = (",
        *(p for link in links for p in _broken(f"{indent}    {link}")),
        f"{indent})",
    ]


def _last_bracket(code: str) -> tuple[int, int] | None:
    """The outermost pair of brackets that holds most of the line; its content is not empty."""
    stack: list[int] = []
    best: tuple[int, int] | None = None
    quoted = ""
    for index, c in enumerate(code):
        if quoted:
            quoted = "" if c == quoted else quoted
        elif c in "\"'":
            quoted = c
        elif c in _PAIRS:
            stack.append(index)
        elif c in _PAIRS.values() and stack:
            start = stack.pop()
            wider = best is None or index - start > best[1] - best[0]
            if not stack and index - start > 1 and wider:
                best = (start, index)
    return best


def _split(text: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts, depth, start, quoted = [], 0, 0, ""
    for index, c in enumerate(text):
        if quoted:
            quoted = "" if c == quoted else quoted
        elif c in "\"'":
            quoted = c
        elif c in _PAIRS:
            depth += 1
        elif c in _PAIRS.values():
            depth -= 1
        elif c == "," and not depth:
            parts.append(text[start:index].strip())
            start = index + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]
