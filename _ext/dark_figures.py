"""Figures in dark colours beside those in light ones: each SVG of the site is written twice.

Greys are mirrored, pale fills become dark tints, lines keep their hue and become lighter. Pictures
inside a figure, such as heat maps, stay as they are. Style sheets show one of the two.
"""

import colorsys
import re
from pathlib import Path

_IMAGE = re.compile(r'<img (?![^>]*class=)[^>]*src="[^"]*_images/[^"]+\.svg"[^>]*>')


def dark(match):
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


def _twice(match):
    image = match[0].replace("<img ", '<img class="light-figure" loading="lazy" ')
    return image + image.replace("light-", "dark-", 1).replace(".svg", ".dark.svg")


def _finished(app, exception):
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    for path in (folder / "_images").glob("*.svg"):
        if not path.name.endswith(".dark.svg"):
            drawn = re.sub(r"#[0-9a-fA-F]{6}\b", dark, path.read_text())
            whole = drawn.replace("<svg ", '<svg fill="#dedede" ', 1)  # no colour named: black
            path.with_suffix(".dark.svg").write_text(whole)
    for page in folder.rglob("*.html"):
        text = page.read_text()
        if 'class="light-figure"' not in text:  # pages that this build left alone have both
            page.write_text(_IMAGE.sub(_twice, text))


def setup(app):
    """Before previews are cut from the pages."""
    app.connect("build-finished", _finished, priority=300)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
