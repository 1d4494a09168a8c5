"""Write values of any content as YAML, TOML and Markdown."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_YAML_VALUES = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
_MARKUP = re.compile(r"([\\`*_\[\]#|~$])")


def to_yaml(values: Mapping[str, Any]) -> str:
    """Write mappings, lists, strings, numbers and booleans in YAML's block style."""
    return "".join(f"{line}\n" for line in _yaml_lines(values))


def to_toml(values: Mapping[str, Any]) -> str:
    """Write a mapping as a TOML document. It must not contain None, which TOML cannot represent."""
    return "\n".join(_toml_lines(values, ())).strip() + "\n"


def plain(text: str) -> str:
    """Escape a text for one line of Markdown or for a table cell, so that it is shown literally."""
    escaped = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    return _printable(escaped.replace("&", "&amp;").replace("<", "&lt;"))


def code(text: str) -> str:
    """Write a text as code within one line of Markdown. Backticks would end it, so they are "'"."""
    return f"`{_printable(' '.join(text.split())).replace('`', chr(39))}`"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown. The cells must already be Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def fenced(language: str, lines: Sequence[str]) -> str:
    """Write a block of code, with a fence that no line ends."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])


def _yaml_lines(value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        lines = []
        for key, inner in value.items():
            found = _yaml_lines(inner)
            name = _yaml_text(key)
            if _is_nested(inner):
                lines += [f"{name}:", *(f"  {line}" for line in found)]
            else:
                lines.append(f"{name}: {found[0]}")
        return lines
    if isinstance(value, list | tuple) and value:
        lines = []
        for inner in value:
            first, *rest = _yaml_lines(inner)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
        return lines
    return [_yaml_scalar(value)]


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(value)


def _yaml_scalar(value: Any) -> str:
    if isinstance(value, str):
        return _yaml_text(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 wants the dot
    return "{}" if value == {} else json.dumps(value)


def _yaml_text(text: str) -> str:
    is_bare = _WORD.fullmatch(text) and text.lower() not in _YAML_VALUES
    return text if is_bare else _quoted(text)


def _toml_lines(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain_keys = {key: v for key, v in values.items() if not isinstance(v, Mapping)}
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain_keys.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = (*path, _toml_key(key))
            lines += ["", f"[{'.'.join(inner)}]", *_toml_lines(value, inner)]
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        inner = (f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items())
        return f"{{ {', '.join(inner)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return json.dumps(value)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    """Quote a text as JSON, and escape further characters, so that YAML and TOML both read it."""
    return _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
