"""The page of classified images."""

from __future__ import annotations

from collections.abc import Sequence

from resnet_client.images import describe
from resnet_client.report.page import Bar, Card, Page, Section, thumbnail
from resnet_client.results import Classification, Outcome


def card(outcome: Outcome[Classification]) -> Card:
    """An image with its classes, or with the reason why it has none."""
    found = outcome.result.predictions if outcome.ok else ()
    error = "" if outcome.error is None else str(outcome.error)
    return Card(describe(outcome.source), thumbnail(outcome.source), [Bar.of(each) for each in found], error=error)


def page(cards: Sequence[Card], model: str, url: str) -> Page:
    """The page of all images."""
    return Page(title=f"Images classified by {model}", subtitle=url, sections=[Section("", "", cards=cards)])
