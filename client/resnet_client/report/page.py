"""Write a page: title, tiles, charts, tables and images with their classes."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from resnet_client.errors import ImageError
from resnet_client.images import ImageSource, encoded
from resnet_client.preprocessing import InvalidImageError, decode
from resnet_client.report.charts import Json
from resnet_client.results import Prediction

_THUMBNAIL_SIDE = 240  # pixels


@dataclasses.dataclass(frozen=True)
class Bar:
    """A class with its probability.

    Attributes:
        label: its name.
        probability: 0 to 1.
        sign: ``good`` if it is right, ``bad`` if it is wrong.
        heading: a line above it.
    """

    label: str
    probability: float
    sign: str = ""
    heading: str = ""

    @classmethod
    def of(cls, found: Prediction, sign: str = "", heading: str = "") -> Bar:
        """That of a prediction; its index is shown, because two classes may have the same label."""
        return cls(f"{found.label} ({found.index})", found.probability, sign, heading)


@dataclasses.dataclass(frozen=True)
class Card:
    """An image with its classes.

    Attributes:
        name: of the image.
        thumbnail: its ``data:`` URL; empty if there is none.
        bars: its classes.
        note: a line below its name.
        error: why it has no classes.
    """

    name: str
    thumbnail: str
    bars: Sequence[Bar] = ()
    note: str = ""
    error: str = ""

    @property
    def file(self) -> str:
        """The name without folders."""
        return Path(self.name).name


@dataclasses.dataclass(frozen=True)
class Section:
    """A table, or images with their classes.

    Attributes:
        title: its heading.
        note: one or two sentences below it.
        rows: of the table, each a column's name → text.
        cards: the images.
    """

    title: str
    note: str
    rows: Sequence[Mapping[str, str]] = ()
    cards: Sequence[Card] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A page; empty parts are left out.

    Attributes:
        title: its heading.
        subtitle: what was measured, where and when.
        verdict: one word before the title.
        message: the result in one sentence.
        findings: sign (``good``, ``bad`` or ``warning``) and text.
        callout: a sentence that stands out.
        tiles: label, value and explanation.
        charts: as :func:`resnet_client.report.charts.chart` returns them.
        sections: below the charts.
        options: name → value.
    """

    title: str
    subtitle: str
    verdict: str = ""
    message: str = ""
    findings: Sequence[tuple[str, str]] = ()
    callout: str = ""
    tiles: Sequence[tuple[str, str, str]] = ()
    charts: Sequence[Json] = ()
    sections: Sequence[Section] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the page to a file.

        Raises:
            OSError: the file cannot be written.
        """
        plotly = get_plotlyjs() if self.charts else ""
        text = _template().render(vars(self), plotly=plotly)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name may not be UTF-8


def thumbnail(source: ImageSource) -> str:
    """A ``data:`` URL of the image, at most 240 pixels wide and high; empty if it cannot be read (again)."""
    try:
        image = decode(encoded(source))
    except (ImageError, InvalidImageError):
        return ""
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.get_template("page.html")
