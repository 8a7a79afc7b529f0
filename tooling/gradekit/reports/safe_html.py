"""What a student wrote, made safe to be shown in a page: no script, no frame, no form, nothing fetched.

nbconvert puts HTML, Markdown, SVG, JavaScript and widget data of a notebook into its pages as they are. The two parts
here go into any HTML exporter by its documented traits, and so into the formgrader's (see ``nbgrader_config.py``)::

    c.HTMLExporter.preprocessors = ["gradekit.reports.safe_html.Sanitize"]
    c.HTMLExporter.filters = {"markdown2html": "gradekit.reports.safe_html.markdown2html"}
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from typing import Any

import nh3
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from pygments.token import STANDARD_TYPES

TAGS = {
    *("a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl", "dt", "em"),
    *("figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "ol", "p"),
    *("pre", "q", "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot"),
    *("th", "thead", "tr", "tt", "u", "ul", "var"),
}
ATTRIBUTES = {
    "*": {"class", "style", "title"},
    "a": {"href"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "ol": {"start"},
    "td": {"align", "colspan", "rowspan"},
    "th": {"align", "colspan", "rowspan"},
    "table": {"border"},
}
#: Classes that colour code and lay out tables. Others would be those of the page around: buttons, bars, hidden things.
CLASSES = {"highlight", "dataframe", *STANDARD_TYPES.values()} - {""}
STYLES = {"background-color", "color", "font-style", "font-weight", "padding", "text-align", "vertical-align"}
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
#: A file beside the notebook: no host, no way up.
_BESIDE = re.compile(r"(?!.*\.\.)[\w][\w./ %-]*")
#: Commands with which MathJax makes links, classes, styles and loads extensions.
_MATH_COMMAND = re.compile(r"\\(href|class|style|cssId|require|bbox|csname)(?![A-Za-z])")
_GRADE_ID = re.compile(r"[\w.-]+")
_LANGUAGE = re.compile(r"[\w+#. -]{1,40}")
_KEPT = {
    *("cell_type", "checksum", "comment", "grade", "grade_id", "locked", "points", "schema_version", "score"),
    *("solution", "task"),
}
_RASTER = ("image/png", "image/jpeg")
_UNSHOWN = "(an output of a kind that is not shown here)"


def clean(text: str) -> str:
    """A fragment of HTML with nothing left in it that runs, fetches, submits, or looks like the page around it."""
    cleaned = nh3.clean(
        text,
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        filter_style_properties=STYLES,
        link_rel="noopener noreferrer nofollow",
    )
    return _harmless_math(cleaned)


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "class":
        return " ".join(word for word in value.split() if word in CLASSES) or None
    if name == "src":  # a picture from elsewhere tells its owner who looks, and when
        return value if _PICTURE.fullmatch(value) or _BESIDE.fullmatch(value) else None
    if name == "href":  # a page beside the notebook is the student's own and would run in the formgrader's name
        return value if value.lower().startswith(("http://", "https://", "mailto:", "#")) else None
    return value


def _harmless_math(text: str) -> str:
    return _MATH_COMMAND.sub(r"\\text", text)


@pass_context
def markdown2html(context: Context, source: str) -> str:
    """nbconvert's Markdown filter, its result cleaned; ``Markup`` is HTML of ours, no notebook's file can hold it."""
    return source if isinstance(source, Markup) else render(source, (context.get("cell") or {}).get("attachments"))


def render(source: str, attachments: dict[str, dict[str, str]] | None = None) -> str:
    """Markdown as clean HTML. Mathematics passes: MathJax finds it in the page."""
    renderer = _Renderer(escape=False, attachments=attachments or {}, exclude_anchor_links=True)
    try:
        return clean(MarkdownWithMath(renderer=renderer).render(source))
    except RecursionError:  # lists in lists in lists
        return f"<pre>{html.escape(source)}</pre>"


class _Renderer(IPythonRenderer):
    """nbconvert's, which gives a whole page up for one picture that is not attached."""

    def image(self, text: str, url: str, title: str | None = None) -> str:
        try:
            return super().image(text, url, title)
        except InvalidNotebook:
            return html.escape(text)


class Sanitize(Preprocessor):
    """Rebuild each cell from what may be shown of it: sources, known metadata, and outputs that were made safe."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        language = nb.metadata.get("language_info", {}).get("name", "")
        named = language if isinstance(language, str) and _LANGUAGE.fullmatch(language) else "python"
        cells = [_cell(cell) for cell in nb.cells]
        metadata = NotebookNode(language_info=NotebookNode(name=named))
        return NotebookNode(nb, metadata=metadata, cells=cells), resources


def _cell(cell: NotebookNode) -> NotebookNode:
    metadata = NotebookNode()
    own = cell.metadata.get("nbgrader")
    if isinstance(own, dict) and _GRADE_ID.fullmatch(str(own.get("grade_id", ""))):
        metadata["nbgrader"] = NotebookNode({key: value for key, value in own.items() if key in _KEPT})
    built = NotebookNode(cell_type=cell.cell_type, metadata=metadata, source=cell.source)
    if re.fullmatch(r"[\w-]{1,64}", str(cell.get("id", ""))):
        built["id"] = cell.id
    if cell.cell_type == "code":
        count = cell.get("execution_count")
        built["execution_count"] = count if type(count) is int else None
        built["outputs"] = [safe for output in cell.outputs if (safe := _output(output)) is not None]
    elif cell.cell_type == "markdown":
        built["attachments"] = _attachments(cell.get("attachments"))
    else:  # a raw cell goes into the page as it is
        built.update(cell_type="markdown", source=f"<pre>{html.escape(cell.source)}</pre>")
    return built


def _attachments(raw: Any) -> dict[str, dict[str, str]]:
    found = {}
    for name, bundle in raw.items() if isinstance(raw, dict) else ():
        pictures = {kind: _text(data) for kind, data in bundle.items() if _is_picture(kind, data)} if bundle else {}
        if pictures:
            found[name] = pictures
    return found


def _is_picture(kind: str, data: Any) -> bool:
    return bool(_PICTURE.fullmatch(f"data:{kind};base64,{_text(data)}"))


def _text(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _output(output: NotebookNode) -> NotebookNode | None:
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return NotebookNode(output_type="stream", name=name, text=_text(output.get("text", "")))
    if kind == "error":
        name, value = _text(output.get("ename", "")), _text(output.get("evalue", ""))
        lines = [_text(line) for line in output.get("traceback", [])]
        return NotebookNode(output_type="error", ename=name, evalue=value, traceback=lines)
    if kind not in ("display_data", "execute_result"):
        return None
    data, metadata = _bundle(output.get("data", {}), output.get("metadata", {}))
    safe = NotebookNode(output_type=kind, data=NotebookNode(data), metadata=NotebookNode(metadata))
    if kind == "execute_result":
        count = output.get("execution_count")
        safe["execution_count"] = count if type(count) is int else None
    return safe


def _bundle(data: Any, metadata: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """What may be shown of an output's forms, and the sizes of its pictures."""
    given = {kind: _text(value) for kind, value in data.items() if isinstance(value, str | list)}
    shown, sizes = {}, {}
    for kind in _RASTER:
        if kind in given and _is_base64(given[kind]):
            shown[kind] = given[kind]
            size = metadata.get(kind)
            pairs = size.items() if isinstance(size, dict) else ()
            sizes[kind] = {k: v for k, v in pairs if k in ("width", "height") and type(v) in (int, float)}
    if "image/svg+xml" in given:  # as a picture: a browser runs no script in it and loads nothing for it
        text = base64.b64encode(given["image/svg+xml"].encode()).decode()
        shown["text/html"] = f'<img alt="a drawing" src="data:image/svg+xml;base64,{text}">'
    elif "text/html" in given:
        cleaned = clean(given["text/html"])
        if re.sub(r"<(?!img)[^>]*>|\s", "", cleaned):
            shown["text/html"] = cleaned
    if "text/markdown" in given:
        shown["text/markdown"] = given["text/markdown"]
    if "text/latex" in given:
        shown["text/latex"] = _harmless_math(given["text/latex"])
    if "text/plain" in given:
        shown["text/plain"] = given["text/plain"]
    return shown or {"text/plain": _UNSHOWN}, sizes


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
