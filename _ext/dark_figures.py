"""Figures in dark colours beside those in light ones: each SVG of the site is written twice.

Greys are mirrored, pale fills become dark tints, lines keep their hue and become lighter. Pictures
inside a figure, such as heat maps, stay as they are. Style sheets show one of the two.
"""

import colorsys
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

_IMAGE = re.compile(r'<img (?![^>]*class=)[^>]*src="[^"]*_images/[^"]+\.svg"[^>]*>')


def dark(match: re.Match[str]) -> str:
    """The colour #rrggbb for a dark page."""
    red, green, blue = (int(match[0][i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, light, vivid = colorsys.rgb_to_hls(red, green, blue)
    if vivid < 0.12 or light in (0, 1):
        light = 0.07 + 0.8 * (1 - light)
    elif light > 0.78:
        light, vivid = 0.3 - 0.5 * (light - 0.78), 0.5 * vivid
    else:
        light = 0.6 + 0.8 * max(0.0, light - 0.4)
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, light, vivid))


def _twice(match: re.Match[str]) -> str:
    return "".join(
        match[0]
        .replace("<img ", f'<img class="{name}-figure" loading="lazy" ')
        .replace(".svg", f"{end}.svg")
        for name, end in (("light", ""), ("dark", ".dark"))
    )


def _finished(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    for path in (folder / "_images").glob("*.svg"):
        if not path.name.endswith(".dark.svg"):
            drawn = re.sub(r"#[0-9a-fA-F]{6}\b", dark, path.read_text())
            drawn = drawn.replace(
                "<svg ", '<svg fill="#dedede" ', 1
            )  # what names no colour is black
            path.with_suffix(".dark.svg").write_text(drawn)
    for page in folder.rglob("*.html"):
        text = page.read_text()
        if 'class="light-figure"' not in text:  # pages that this build left alone have both
            page.write_text(_IMAGE.sub(_twice, text))


def setup(app: Sphinx) -> dict[str, Any]:
    """Before previews are cut from the pages."""
    app.connect("build-finished", _finished, priority=300)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
