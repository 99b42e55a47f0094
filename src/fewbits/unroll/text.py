"""Reads a text model: lines and blocks to plain calls, each with its place in the text.

``docs/reference/text-models.md`` specifies the format.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fewbits.errors import did_you_mean
from fewbits.unroll.faults import ModelError, Place

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BLOCK = re.compile(r"block\s+(?P<name>[^\s(]*)\s*(?:\((?P<arguments>[^()]*)\))?\s*\Z")
_TERM = re.compile(r"[0-9]+|[A-Za-z_][A-Za-z0-9_]*|[-+*/]")
_MOST_LINES = 100_000
_MOST_NUMBER = 1 << 48

Numbers = Mapping[str, int]


@dataclass(frozen=True)
class Word:
    """A word of a line and where it starts."""

    text: str
    place: Place


@dataclass(frozen=True)
class Line:
    """``name = operation arguments key=value...``, as written."""

    name: Word
    operation: Word
    arguments: tuple[Word, ...]
    attributes: dict[str, Word]


@dataclass(frozen=True)
class Statement:
    """The same outside of all blocks: names are full, ``let`` names are still in the values."""

    name: str
    place: Place
    operation: Word
    arguments: tuple[tuple[str, Place], ...]
    attributes: dict[str, Word]
    numbers: Numbers


@dataclass(frozen=True)
class Input:
    """``input name sizes...``."""

    name: str
    place: Place
    shape: tuple[int, ...]
    below: int | None


@dataclass
class Text:
    """A text model, blocks written out."""

    inputs: list[Input]
    statements: list[Statement]
    outputs: list[str]
    numbers: dict[str, int]
    title: str
    small: dict[str, int]  # numbers to verify gradients with


@dataclass(frozen=True)
class _Block:
    tensors: tuple[str, ...]
    numbers: dict[str, Word | None]
    body: tuple[Line, ...]


def number(word: Word, numbers: Numbers) -> int:
    """The value of an expression of integers, names and ``+ - * /``."""
    terms = _TERM.findall(word.text)
    if "".join(terms) != word.text:
        raise ModelError(f"{word.text!r} is no whole number", word.place)
    tokens = iter([*terms, ""])
    ahead = next(tokens)

    def factor() -> int:
        nonlocal ahead
        token, ahead = ahead, next(tokens, "")
        if token == "-":
            return -factor()
        if token.isdigit() and len(token) < 16:
            return int(token)
        if token in numbers:
            return numbers[token]
        if _NAME.match(token):
            hint = did_you_mean(token, numbers)
            raise ModelError(f"{token!r} is no number and no let name{hint}", word.place)
        raise ModelError(f"{word.text!r} is no whole number", word.place)

    def product() -> int:
        nonlocal ahead
        value = factor()
        while ahead in ("*", "/"):
            sign, ahead = ahead, next(tokens, "")
            other = factor()
            if sign == "*":
                value *= other
            elif other == 0 or value % other:
                raise ModelError(f"{value}/{other} does not come out even", word.place)
            else:
                value //= other
        return value

    total = product()
    while ahead in ("+", "-"):
        sign, ahead = ahead, next(tokens, "")
        total += product() if sign == "+" else -product()
    if ahead or abs(total) > _MOST_NUMBER:
        raise ModelError(f"{word.text!r} is no whole number of reasonable size", word.place)
    return total


def parse(source: str, *, file: str = "model", settings: Numbers | None = None) -> Text:
    """Read a model; ``settings`` replace what ``let`` lines say.

    Raises:
        ModelError: a fault in the text, with its place.
    """
    return _Reader(file, dict(settings or {})).read(source)


class _Reader:
    def __init__(self, file: str, settings: dict[str, int]) -> None:
        self._file, self._settings = file, settings
        self._numbers: dict[str, int] = {}
        self._blocks: dict[str, _Block] = {}
        self._names: dict[str, str] = {}
        self._text = Text([], [], [], self._numbers, "", {})
        self._open: tuple[Word, tuple[str, ...], dict[str, Word | None], list[Line]] | None = None

    def read(self, source: str) -> Text:
        title: list[str] = []
        for count, raw in enumerate(source.splitlines(), 1):
            if not self._text.inputs and raw.startswith("#"):
                title.append(raw.lstrip("# ").rstrip())
            words = list(_words(raw, Place(self._file, count, 1, raw)))
            if words:
                self._line(words, raw)
        if self._open:
            name = self._open[0]
            raise ModelError(f"block {name.text!r} has no end", name.place)
        for setting in self._settings.keys() - self._numbers.keys():
            hint = did_you_mean(setting, self._numbers)
            raise ModelError(f"{self._file}: no line says 'let {setting} = ...'{hint}")
        self._text.title = title[0] if title else ""
        return self._text

    def _line(self, words: list[Word], raw: str) -> None:
        first = words[0]
        if first.text == "end":
            self._end(words)
        elif first.text == "block":
            self._begin(words, raw)
        elif self._open:
            self._open[3].append(_operation(words))
        elif first.text == "let":
            self._let(words)
        elif first.text == "input":
            self._input(words)
        elif first.text == "output":
            self._output(words)
        else:
            self._expand(_operation(words), self._names, "", self._numbers)

    def _let(self, words: list[Word]) -> None:
        if len(words) not in (4, 5) or words[2].text != "=":
            raise ModelError("a let line reads: let NAME = NUMBER [check=NUMBER]", words[0].place)
        name = _name(words[1])
        if name in self._numbers:
            raise ModelError(f"{name!r} is given twice", words[1].place)
        value = number(words[3], self._numbers)
        if len(words) == 5:
            key, small = _setting(words[4])
            if key != "check":
                raise ModelError(f"a let line has no attribute {key!r}", words[4].place)
            self._text.small[name] = number(small, self._numbers)
        self._numbers[name] = self._settings.get(name, value)

    def _input(self, words: list[Word]) -> None:
        if len(words) < 2:
            raise ModelError("an input line reads: input NAME SIZE...", words[0].place)
        sizes = [word for word in words[2:] if "=" not in word.text]
        below = None
        for word in words[2:]:
            if "=" not in word.text:
                continue
            key, value = _setting(word)
            if key != "below":
                raise ModelError(f"an input has no attribute {key!r}", word.place)
            below = _positive(value, self._numbers)
        shape = tuple(_positive(word, self._numbers) for word in sizes)
        name = _name(words[1])
        if name in self._names:
            raise ModelError(f"{name!r} is given twice", words[1].place)
        self._names[name] = name
        self._text.inputs.append(Input(name, words[1].place, shape, below))

    def _output(self, words: list[Word]) -> None:
        for word in words[1:]:
            if word.text not in self._names:
                hint = did_you_mean(word.text, self._names)
                raise ModelError(f"nothing above is called {word.text!r}{hint}", word.place)
            self._text.outputs.append(self._names[word.text])

    def _begin(self, words: list[Word], raw: str) -> None:
        if self._open:
            raise ModelError("a block cannot be inside a block", words[0].place)
        match = _BLOCK.match(raw.split("#")[0].strip())
        if not match or match["arguments"] is None:
            raise ModelError("a block line reads: block NAME(ARGUMENT, ...)", words[0].place)
        place = words[0].place.at(raw.index(match["name"], raw.index("block") + 5) + 1)
        name = Word(match["name"], place)
        if _name(name) in self._blocks:
            raise ModelError(f"block {name.text!r} is given twice", place)
        tensors: list[str] = []
        numbers: dict[str, Word | None] = {}
        for argument in filter(None, (part.strip() for part in match["arguments"].split(","))):
            key, given, default = (part.strip() for part in argument.partition("="))
            _name(Word(key, place))
            if key in numbers:
                raise ModelError(f"argument {key!r} is given twice", place)
            numbers[key] = Word(default, place) if given else None
            tensors.append(key)
        self._open = (name, tuple(tensors), numbers, [])

    def _end(self, words: list[Word]) -> None:
        if not self._open:
            raise ModelError("end without a block", words[0].place)
        name, arguments, numbers, body = self._open
        if not body:
            raise ModelError(f"block {name.text!r} is empty", name.place)
        # What the body uses in values is a number, and so is what has a default.
        values = " ".join(word.text for line in body for word in line.attributes.values())
        used = {argument.text for line in body for argument in line.arguments}
        counted = set(_TERM.findall(values)) - used
        tensors = tuple(a for a in arguments if numbers[a] is None and a not in counted)
        self._blocks[name.text] = _Block(
            tensors, {a: numbers[a] for a in arguments if a not in tensors}, tuple(body)
        )
        self._open = None

    def _expand(self, line: Line, names: dict[str, str], prefix: str, numbers: Numbers) -> str:
        """Add a line, or a block's lines, to the model; the full name of the result.

        ``names`` are the full names of what can be seen from the line.
        """
        if line.name.text in names:
            raise ModelError(f"{line.name.text!r} is given twice", line.name.place)
        for word in line.arguments:
            if word.text not in names:
                hint = did_you_mean(word.text, names)
                raise ModelError(f"nothing above is called {word.text!r}{hint}", word.place)
        full = prefix + line.name.text
        arguments = tuple((names[word.text], word.place) for word in line.arguments)
        block = self._blocks.get(line.operation.text)
        if block is not None:
            names[line.name.text] = self._call(block, line, full, arguments, numbers)
            return names[line.name.text]
        attributes = {
            key: Word(_renamed(word.text, names), word.place)
            for key, word in line.attributes.items()
        }
        self._text.statements.append(
            Statement(full, line.name.place, line.operation, arguments, attributes, numbers)
        )
        if len(self._text.statements) > _MOST_LINES:
            raise ModelError(f"more than {_MOST_LINES} operations", line.name.place)
        names[line.name.text] = full
        return full

    def _call(
        self,
        block: _Block,
        line: Line,
        full: str,
        arguments: tuple[tuple[str, Place], ...],
        numbers: Numbers,
    ) -> str:
        place, called = line.operation.place, line.operation.text
        if len(arguments) != len(block.tensors):
            wanted = ", ".join(block.tensors) or "none"
            raise ModelError(
                f"block {called!r} takes {len(block.tensors)} tensors ({wanted}), "
                f"not {len(arguments)}",
                place,
            )
        inner = self._bind(block, line, numbers)
        times = line.attributes.get("times")
        count = _positive(times, numbers) if times else 1
        bound = [name for name, _ in arguments]
        for turn in range(1, count + 1):
            prefix = f"{full}.{turn}." if count > 1 else f"{full}."
            names = dict(zip(block.tensors, bound, strict=True))
            for inside in block.body:
                result = self._expand(inside, names, prefix, inner)
            bound = [result, *bound[1:]]
        return result

    def _bind(self, block: _Block, line: Line, numbers: Numbers) -> Numbers:
        """What the block's names of numbers stand for in this call."""
        place, called = line.operation.place, line.operation.text
        inner = {**self._numbers}
        for key, default in block.numbers.items():
            word = line.attributes.get(key)
            if word is not None:
                inner[key] = number(word, numbers)
            elif default is not None:
                inner[key] = number(default, self._numbers)
            else:
                raise ModelError(f"block {called!r} needs {key}=NUMBER", place)
        for key, word in line.attributes.items():
            if key not in block.numbers and key != "times":
                hint = did_you_mean(key, [*block.numbers, "times"])
                raise ModelError(
                    f"block {called!r} has no argument {key!r}{hint}", key_place(key, word)
                )
        return inner


def _renamed(value: str, names: Mapping[str, str]) -> str:
    """``tokens.weight`` inside a block, where ``tokens`` has a longer name."""
    head, dot, tail = value.rpartition(".")
    return f"{names.get(head, head)}.{tail}" if dot and head in names else value


def _words(raw: str, start: Place) -> Iterator[Word]:
    code = raw.split("#")[0]
    for match in re.finditer(r"\S+", code):
        yield Word(match[0], start.at(match.start() + 1))


def _operation(words: list[Word]) -> Line:
    if len(words) < 3 or words[1].text != "=":
        raise ModelError("expected: NAME = OPERATION ARGUMENT... KEY=VALUE...", words[0].place)
    arguments, attributes = [], {}
    for word in words[3:]:
        if "=" in word.text:
            key, value = _setting(word)
            if key in attributes:
                raise ModelError(f"{key!r} is given twice", word.place)
            attributes[key] = value
        elif attributes:
            raise ModelError("arguments come before attributes", word.place)
        else:
            _name(word)
            arguments.append(word)
    _name(words[0])
    return Line(words[0], words[2], tuple(arguments), attributes)


def _setting(word: Word) -> tuple[str, Word]:
    key, _, value = word.text.partition("=")
    if not key or not value:
        raise ModelError("expected KEY=VALUE without spaces", word.place)
    return key, Word(value, word.place.at(word.place.column + len(key) + 1))


def key_place(key: str, value: Word) -> Place:
    """Where the key of a ``key=value`` is."""
    return value.place.at(value.place.column - len(key) - 1)


def _name(word: Word) -> str:
    if not _NAME.match(word.text):
        raise ModelError(f"{word.text!r} is no name", word.place)
    return word.text


def _positive(word: Word, numbers: Numbers) -> int:
    value = number(word, numbers)
    if value < 1:
        raise ModelError(f"{word.text!r} must be 1 or more", word.place)
    return value
