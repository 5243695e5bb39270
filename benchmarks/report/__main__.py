"""Write figures and charts of docs/performance.md anew."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.report.charts import draw
from benchmarks.report.tables import TABLES

# What a chart shows, by the place that it stands in, above the table.
CHARTS = {
    "comparison": "Throughput with 16 callers",
    "callers": "Throughput and latency by callers",
    "sizes": "Core-milliseconds by size",
    "batches": "Time by batch",
}
DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def main() -> int:
    """Replace what stands between the markers, ``<!-- NAME -->`` and ``<!-- end -->``."""
    page = DOCS / "performance.md"
    text = page.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        places = list(re.finditer(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, flags=re.DOTALL))
        if len(places) != 1:
            raise SystemExit(f"{page} has {len(places)} places for {name}")
        start, end = places[0].span(1)
        chart = f"![{CHARTS[name]}](performance/{name}.svg)\n\n" if name in CHARTS else ""
        text = f"{text[:start]}{chart}{make()}\n{text[end:]}"
    page.write_text(text, encoding="utf-8")
    for path in (page, *draw(DOCS / "performance")):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
