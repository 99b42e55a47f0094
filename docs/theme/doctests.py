"""Puts the ``>>>`` examples of docstrings into code blocks; Markdown takes them for quotes."""

from typing import Any

import griffe


def fenced(text: str) -> str:
    """The text with a fence around each example, which ends at an empty line as in doctest."""
    lines, inside = [], False
    for line in [*text.split("\n"), ""]:
        if line.lstrip().startswith(">>>") and not inside:
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join(lines[:-1])


class Doctests(griffe.Extension):
    """Applies ``fenced`` to every docstring that is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change one docstring."""
        if obj.docstring and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
