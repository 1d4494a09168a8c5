"""Parses filters by recursive descent, with limits on length and nesting. No code is executed.

either     := both ("or" both)*
both       := not ("and" not)*
not        := "not" not | "(" either ")" | key [sign value]
sign       := = | != | < | <= | > | >= | ~
key, value := a word, or a text in single or double quotes
"""

import re
from dataclasses import dataclass
from typing import Final

from metafleet.errors import ConfigError
from metafleet.orchestrator.records.expression import (
    EVERYTHING,
    Both,
    Comparison,
    Condition,
    Either,
    Has,
    Not,
)
from metafleet.orchestrator.records.literals import OPERATORS, Literal

MAX_LENGTH: Final = 10_000
MAX_DEPTH: Final = 50
EXAMPLE: Final = "'learner.name=maml and outer.lr<0.01'"
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<bracket>[()])
    |(?P<sign>!=|<=|>=|==|[=<>~])
    |"(?P<double>[^"]*)"
    |'(?P<single>[^']*)'
    |(?P<word>[^\s()=<>~!"']+)
    |(?P<end>$))""",
    re.VERBOSE,
)
_WORDS: Final = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a filter: its kind ("bracket", "sign", "text", "and" ..., "end") and place."""

    kind: str
    text: str
    at: int


def parse_filter(text: str) -> Condition:
    """Parse a filter. An empty filter holds for every run.

    Raises:
        ConfigError: the text is not a filter. The message names the position of the error and what
            was expected there.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(
            f"--where has {len(text)} characters; expected at most {MAX_LENGTH} characters"
        )
    tokens = _split(text)
    if tokens[0].kind == "end":
        return EVERYTHING
    parser = _Parser(text, tokens)
    condition = parser.either(0)
    parser.require("end", "`and`, `or` or the end")
    return condition


def _split(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place = 0
    while not tokens or tokens[-1].kind != "end":
        found = _TOKEN.match(text, place)
        if found is None:
            rest = text[place:].lstrip()
            what = "a quote is not closed" if rest[0] in "\"'" else f"{rest[0]!r} is unexpected"
            raise _error(text, len(text) - len(rest), what, f"a filter such as {EXAMPLE}")
        kind = str(found.lastgroup)
        content, at = found[kind], found.start(kind)
        if kind == "word" and content.casefold() in _WORDS:
            kind = content.casefold()
        elif kind in ("word", "single", "double"):
            kind = "text"
        tokens.append(_Token(kind, content, at))
        place = found.end()
    return tokens


def _error(text: str, at: int, what: str, expected: str) -> ConfigError:
    before = text[max(0, at - 30) : at]
    where = f"after {before!r}" if before.strip() else "at the start"
    return ConfigError(f"--where: {what} {where}; expected {expected}")


class _Parser:
    """A position in the tokens of one filter."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._next = text, tokens, 0

    def either(self, depth: int) -> Condition:
        parts = [self._both(depth)]
        while self._skip("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self, depth: int) -> Condition:
        parts = [self._not(depth)]
        while self._skip("and"):
            parts.append(self._not(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _not(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"--where: more than {MAX_DEPTH} parentheses or `not` in each other; expected fewer"
            )
        if self._skip("not"):
            return Not(self._not(depth + 1))
        if self._is_next("bracket", "("):
            self._next += 1
            inside = self.either(depth + 1)
            self.require("bracket", "`and`, `or` or a closing parenthesis", ")")
            return inside
        return self._condition()

    def _condition(self) -> Condition:
        key = self.require("text", "a key such as learner.name")
        if not key:
            raise ConfigError("--where: a key is empty; expected a key such as learner.name")
        if self._tokens[self._next].kind != "sign":
            return Has(key)
        sign = self.require("sign", "a sign").replace("==", "=")
        value = self.require("text", f"a value after {key}{sign}, in quotes if it has spaces")
        assert sign in OPERATORS
        return Comparison(key, sign, Literal.parse(value))

    def require(self, kind: str, expected: str, text: str | None = None) -> str:
        """Take the next token and return its text; refuse one of another kind."""
        token = self._tokens[self._next]
        if not self._is_next(kind, text):
            what = "the filter ends" if token.kind == "end" else f"{token.text!r:.80} is unexpected"
            raise _error(self._text, token.at, what, expected)
        self._next += 1
        return token.text

    def _skip(self, kind: str) -> bool:
        is_next = self._is_next(kind)
        self._next += is_next
        return is_next

    def _is_next(self, kind: str, text: str | None = None) -> bool:
        token = self._tokens[self._next]
        return token.kind == kind and text in (None, token.text)
