"""Drawn episodes in the form of a web page: items as data URIs, predictions as texts."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from metafleet.data.decoding.shown import Shown
from metafleet.orchestrator.redraw.drawn import DrawnEpisode, DrawnItem

_MOST_TEXT: Final = 160


@dataclass(slots=True)
class Budget:
    """How many bytes of pictures and sounds may still be added to a page.

    Attributes:
        left: the number of bytes.
        left_out: number of pictures and sounds that did not fit.
        has_sounds_apart: whether the page gets sounds from another address, so that they need no
            room. A sound in the view is then only a mark.
    """

    left: int
    left_out: int = 0
    has_sounds_apart: bool = False

    def take(self, n_bytes: int) -> bool:
        """Return whether there is room for a file, and take the room."""
        encoded = 4 * n_bytes // 3
        if encoded > self.left:
            self.left_out += 1
            return False
        self.left -= encoded
        return True


@dataclass(frozen=True, slots=True)
class EpisodeView:
    """The items of an episode of classification.

    Attributes:
        support: class -> its support examples.
        query: the shown queries, wrong ones first.
        more_queries: number of queries that are not shown.
    """

    support: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = ()
    query: tuple[dict[str, Any], ...] = ()
    more_queries: int = 0


def items_of(
    episode: DrawnEpisode, budget: Budget, *, most_support: int, most_queries: int
) -> EpisodeView:
    """Return the items of an episode of classification; regression has none.

    Args:
        episode: the episode.
        budget: the room for pictures and sounds.
        most_support: maximum number of support examples.
        most_queries: maximum number of queries.
    """
    if not episode.classes:
        return EpisodeView()
    wrong_first = sorted(enumerate(episode.query), key=lambda pair: not pair[1].is_wrong)
    shown = wrong_first[:most_queries]
    queries = tuple(
        _query(item, episode.classes, budget) | {"place": place} for place, item in shown
    )
    by_class: dict[int, list[dict[str, Any]]] = {}
    for place, item in enumerate(episode.support[:most_support]):
        for target in item.targets[:1]:
            by_class.setdefault(target, []).append(_forms(item, budget) | {"place": place})
    support = tuple((episode.classes[target], tuple(own)) for target, own in by_class.items())
    return EpisodeView(support, queries, len(wrong_first) - len(shown))


def value_rows(episode: DrawnEpisode, most: int) -> tuple[tuple[str, ...], ...]:
    """Return inputs, targets and predictions of the first queries of an episode of regression."""
    return tuple(
        tuple(
            ", ".join(f"{value:.4g}" for value in values) or "-"
            for values in (item.inputs, item.values, item.outputs)
        )
        for item in episode.query[:most]
    )


def _query(item: DrawnItem, classes: Sequence[str], budget: Budget) -> dict[str, Any]:
    found = _forms(item, budget)
    true = [classes[target] for target in item.targets]
    found |= {"true": ", ".join(true), "predicted": "", "is_wrong": item.is_wrong, "shares": ()}
    if item.predicted is not None:
        share = item.probabilities[item.predicted]
        found["predicted"] = f"{classes[item.predicted]} ({100 * share:.0f} %)"
        if item.is_wrong and item.targets:
            found["true"] += f" ({100 * item.probabilities[item.targets[0]]:.0f} %)"
    elif item.probabilities:
        ordered = sorted(range(len(classes)), key=lambda i: -item.probabilities[i])[:5]
        found["shares"] = tuple(
            (classes[i], f"{100 * item.probabilities[i]:.0f} %") for i in ordered
        )
    return found


def _forms(item: DrawnItem, budget: Budget) -> dict[str, Any]:
    parts = [
        {"modality": name, "missing": shown is None, **_form(shown, budget)}
        for name, shown in item.shown.items()
    ]
    parts += [
        {"modality": name, "missing": False, "note": note, **_form(None, budget)}
        for name, note in item.notes.items()
    ]
    return {"parts": parts}


def _form(shown: Shown | None, budget: Budget) -> dict[str, Any]:
    """Return pictures and sounds as data URIs, as far as there is room."""
    found: dict[str, Any] = {"pictures": [], "sound": "", "text": "", "numbers": "", "left_out": 0}
    if shown is None:
        return found
    files = [("image/png", picture) for picture in shown.pictures]
    if shown.drawing:
        files.append(("image/svg+xml", shown.drawing.encode()))
    for kind, data in files:
        if budget.take(len(data)):
            found["pictures"].append(_uri(kind, data))
        else:
            found["left_out"] += 1
    if shown.sound and budget.has_sounds_apart:
        found["sound"] = "apart"
    elif shown.sound and budget.take(len(shown.sound)):
        found["sound"] = _uri("audio/wav", shown.sound)
    text = shown.text
    found["text"] = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
    found["numbers"] = ", ".join(f"{number:.4g}" for number in shown.numbers)
    return found


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
