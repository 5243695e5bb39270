"""One self-contained HTML file: text, tables and Plotly's charts, readable offline, light and dark."""

from __future__ import annotations

import dataclasses
import html
import importlib.resources
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Chart:
    """One of Plotly's charts.

    Attributes:
        title: what it shows.
        note: how to read it, in a sentence.
        traces: Plotly's traces; a colour ``@name`` is looked up in the theme of ``page.js``.
        layout: what differs from the page's own layout.
    """

    title: str
    note: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text; the first column is left-aligned, all others to the right."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Page:
    """What a page holds, from top to bottom.

    Attributes:
        title: of the window, too.
        subtitle: what was done, where and when.
        verdict: one word; its lower case is the colour's name in ``page.css``.
        sentence: what the verdict means here.
        limit: what limits.
        findings: lines under the verdict, each with its sign: ``good``, ``bad`` or ``doubt``.
        tiles: (label, value, explanation).
        sections: charts and tables.
        details: (name, value), folded away at the end.
    """

    title: str
    subtitle: str
    verdict: str
    sentence: str
    limit: str
    findings: Sequence[tuple[str, str]]
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Chart | Table]
    details: Sequence[tuple[str, str]]


def write(page: Page, path: Path) -> None:
    """Write a page to a file."""
    path.write_text(render(page), encoding="utf-8")


def render(page: Page) -> str:
    """The whole file."""
    charts = [section for section in page.sections if isinstance(section, Chart)]
    data = [{"traces": chart.traces, "layout": chart.layout} for chart in charts]
    parts = {
        "TITLE": html.escape(page.title),
        "STYLE": _asset("page.css"),
        "BODY": _body(page),
        "PLOTLY": _plotly(),
        # "</script" would end the script element early, "<!--" would keep it from ending
        "DATA": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": _asset("page.js"),
    }
    # In one go: what is filled in may look like a place to fill.
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda place: parts[place[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _plotly() -> str:
    script = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
    return script.read_text(encoding="utf-8")


def _body(page: Page) -> str:
    findings = "".join(f'<li class="{sign}">{html.escape(text)}</li>' for sign, text in page.findings)
    return "".join(
        (
            f'<header><div class="badge {page.verdict.lower()}">{html.escape(page.verdict)}</div>',
            f"<div><h1>{html.escape(page.title)}</h1><p class=quiet>{html.escape(page.subtitle)}</p></div></header>",
            f"<p class=sentence>{html.escape(page.sentence)}</p><ul class=findings>{findings}</ul>",
            f"<p class=limit><b>What limits:</b> {html.escape(page.limit)}</p>" if page.limit else "",
            "<div class=tiles>" + "".join(_tile(*tile) for tile in page.tiles) + "</div>",
            _sections(page.sections),
            _details(page.details),
        )
    )


def _tile(label: str, value: str, explanation: str) -> str:
    return (
        f"<div class=tile><span>{html.escape(label)}</span><strong>{html.escape(value)}</strong>"
        f"<small>{html.escape(explanation)}</small></div>"
    )


def _sections(sections: Sequence[Chart | Table]) -> str:
    number = 0
    parts = []
    for section in sections:
        head = f"<h2>{html.escape(section.title)}</h2><p class=quiet>{html.escape(section.note)}</p>"
        if isinstance(section, Chart):
            parts.append(f"<section>{head}<div class=chart id=chart{number}></div></section>")
            number += 1
        else:
            parts.append(f"<section class=wide>{head}{_table(section)}</section>")
    return "<main>" + "".join(parts) + "</main>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _details(details: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in details)
    return f"<details><summary>Everything that was asked for</summary><dl>{rows}</dl></details>"
