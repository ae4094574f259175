"""A text -> how likely it tries to take over the agent, why, and where. Knows views, rules and style; no policy.

The score is a logistic over the weights of the rules that fired in the most suspicious view, plus the style logit,
plus a little for each way in which the text was disguised.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

from agentkit.shields.normalize import View, views
from agentkit.shields.override_matcher import Hit, find_hits
from agentkit.shields.override_rules import BIAS, Category
from agentkit.shields.override_style import StyleModel

# Style may add to what the rules say; alone it stays below the default threshold.
_STYLE_SLOPE, _STYLE_MOST = 2.0, 3.0
_PLAIN_SLOPE, _PLAIN_MOST = 0.1, 0.4
# Nobody writes an instruction in base64 or in tag characters by accident.
_DISGUISED = 1.0

_QUOTES = "\"'`«»"
_ASKS_ABOUT = re.compile(
    r"\b(?:what (?:does|do|is|are)|means?|meaning|explain|why (?:do|does|is|are)|phrases?|called|detect\w*|"
    r"examples? of)\b"
)
_MENTION_LENGTH = 300
_MENTION_FACTOR = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """How a text was judged: `score` in (0, 1), the strongest category, and the hits with raw offsets."""

    score: float
    category: Category | None
    transforms: tuple[str, ...]
    hits: tuple[Hit, ...]


def assess(text: str, *, untrusted: bool, style: StyleModel) -> Assessment:
    """Judge one text. `untrusted` says that its author may not instruct the agent.

    Raises:
        ShieldError: if the text is made so that judging it would take too long.
    """
    _, folded, *hidden = views(text)
    style_logit = style.logit(folded.text)
    best = max(
        (_weigh(view, untrusted=untrusted) for view in (folded, *hidden)),
        key=lambda weighed: weighed.rule_logit,
    )
    logit = BIAS + best.rule_logit + _style_part(style_logit)
    return Assessment(
        score=1.0 / (1.0 + math.exp(-logit)),
        category=_strongest(best.hits),
        transforms=best.view.transforms,
        hits=tuple(_located(hit, best.view) for hit in best.hits),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    view: View
    hits: tuple[Hit, ...]
    rule_logit: float


def _weigh(view: View, *, untrusted: bool) -> _Weighed:
    hits = tuple(find_hits(view.text, untrusted=untrusted))
    weight = sum(hit.weight * (_MENTION_FACTOR if _is_mention(hit, view.text) else 1.0) for hit in hits)
    if hits and view.transforms:
        weight += _DISGUISED
    return _Weighed(view=view, hits=hits, rule_logit=weight)


def _style_part(logit: float) -> float:
    if logit > 0.0:
        return min(_STYLE_MOST, _STYLE_SLOPE * logit)
    return max(-_PLAIN_MOST, _PLAIN_SLOPE * logit)


def _is_mention(hit: Hit, text: str) -> bool:
    """Say whether a short text asks about a phrase that it quotes, rather than using it."""
    if len(text) > _MENTION_LENGTH:
        return False
    before, after = text[: hit.start].rstrip(), text[hit.end :]
    if not before or before[-1] not in _QUOTES or not any(quote in after for quote in _QUOTES):
        return False
    return _ASKS_ABOUT.search(before) is not None


def _strongest(hits: tuple[Hit, ...]) -> Category | None:
    totals: dict[Category, float] = defaultdict(float)
    for hit in hits:
        totals[hit.category] += hit.weight
    return max(totals, key=lambda category: totals[category], default=None)


def _located(hit: Hit, view: View) -> Hit:
    start, end = view.raw_span(hit.start, hit.end)
    return Hit(rule=hit.rule, category=hit.category, weight=hit.weight, start=start, end=end)
