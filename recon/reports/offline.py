"""An executed notebook as one HTML file that opens without a network: no cell is shown, only what it gave.

The page forbids itself to load anything (Content-Security-Policy), and runs two scripts only, each named by its
hash: plotly.js, inlined once, and the few lines that draw. A text that slipped through as markup could not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources as package_files
from pathlib import Path
from typing import Any

from nbconvert.exporters.html import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from plotly.offline import get_plotlyjs

PLOTLY = "application/vnd.plotly.v1+json"
_TEMPLATE = package_files.files("recon.reports") / "template"


class InlineFigures(Preprocessor):
    """Turn each plotly output into a place with its data; the page's one script draws them all."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        figures = 0
        for cell in nb.cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if PLOTLY in data:
                    data["text/html"] = _place(data[PLOTLY])
                    figures += 1
        scripts = [get_plotlyjs(), (_TEMPLATE / "draw.js").read_text(encoding="utf-8")] if figures else []
        resources["scripts"] = scripts
        resources["script_hashes"] = [_hash(script) for script in scripts]
        return nb, resources


def _place(figure: dict[str, Any]) -> str:
    drawn = {"data": figure["data"], "layout": figure["layout"]}
    # Inside a script element only `<` could end it; as an escape it means the same to JSON.
    text = json.dumps(drawn, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    height = int(figure["layout"].get("height", 450))  # so that nothing moves when the figure appears
    return (
        f'<div class="figure" style="min-height:{height}px"><script type="application/json">{text}</script>'
        '<div class="drawing"></div></div>'
    )


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def page(notebook: NotebookNode, title: str) -> str:
    """The notebook as one HTML page.

    Args:
        notebook: an executed notebook; it is not changed.
        title: what the browser's tab says.
    """
    exporter = HTMLExporter(
        extra_template_basedirs=[str(Path(str(_TEMPLATE)).parent)],
        template_name="template",
        preprocessors=[InlineFigures],
    )
    body, _ = exporter.from_notebook_node(notebook, resources={"title": title})
    return body
