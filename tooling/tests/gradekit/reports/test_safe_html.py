"""What students write runs nowhere, in feedback and in the formgrader; what a course shows is shown as before."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from gradekit.course import Course
from gradekit.reports.page import FeedbackExporter
from gradekit.reports.safe_html import clean
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from nbgrader.server_extensions.formgrader import handlers
from traitlets.config import Config

ROOT = Path(__file__).parents[4]
PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
HOSTILE = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror=alert(1)>'>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='javascript:alert(1)'></object><embed src=x>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=' jAvAsCrIpT&#58;alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='evil.html'>x</a>",
    "<form action='/formgrader/api'><button formaction='javascript:alert(1)'>x</button><input name=q></form>",
    "<meta http-equiv=refresh content='0;url=//evil.example'><base href='//evil.example/'>",
    "<link rel=stylesheet href='//evil.example/x.css'><style>@import '//evil.example/x.css';</style>",
    "<div style='position:fixed;inset:0;background:url(//evil.example/x)'>x</div>",
    "<button class='full-credit btn'>x</button><div id='notebook' class='navbar-fixed-top score' data-link=x>x</div>",
    "<img src='//evil.example/x.png'><img src='http://evil.example/x.png'><img src='/logout'><img src='a/../../x'>",
    "<video src=x onerror=alert(1)></video><audio autoplay src=x></audio><details ontoggle=alert(1) open>x</details>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<template><script>alert(1)</script></template><textarea></textarea><script>alert(1)</script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "</pre></div><script>alert(1)</script>",
    "<script type='text/x-mathjax-config'>alert(1)</script>",
    "$\\href{javascript:alert(1)}{x}$ \\(\\class{score}{x}\\) &#92;href{javascript:alert(1)}{x} $\\require{action}$",
]
ALLOWED_HANDLERS = re.compile(r"toggle_name\((true|false)\);")


def dangers(page: str, *, own_scripts: int) -> list[str]:
    """What could run in a page, beyond its template's own scripts."""
    soup = BeautifulSoup(page, "html.parser")
    found = [f"{len(soup('script'))} scripts"] if len(soup("script")) != own_scripts else []
    notebook = soup.find(id="notebook-container")
    assert notebook is not None
    names = ["audio", "base", "embed", "form", "iframe", "link", "math", "meta", "noscript", "object", "style", "svg"]
    found += [tag.name for tag in notebook([*names, "template", "textarea", "video"])]
    for tag in soup.find_all(True):
        for name, value in tag.attrs.items():
            value = " ".join(value) if isinstance(value, list) else value
            if name.startswith("on") and not ALLOWED_HANDLERS.fullmatch(value):
                found.append(f"{name}={value}")
            if name in ("href", "src") and re.match(r"\s*(javascript|vbscript|data:text)", value, re.IGNORECASE):
                found.append(f"{name}={value}")
    for tag in notebook.find_all(True):
        if any("evil" in str(tag.get(name)) for name in ("href", "src", "style")) or tag.get("src", "")[:1] == "/":
            found.append(str(tag.attrs))
    for code in notebook("pre"):  # MathJax reads no code
        code.extract()
    return found + re.findall(r"\\(?:href|class|require)\{", notebook.get_text())


def notebook_with(texts: list[str]) -> NotebookNode:
    """The texts in every place of a notebook where a student can put them."""
    v4 = nbformat.v4
    cells: list[NotebookNode] = []
    for number, text in enumerate(texts):
        outputs = [
            v4.new_output("display_data", data={"text/html": text}),
            v4.new_output("display_data", data={"text/html": text}, metadata={"text/html": {"isolated": True}}),
            v4.new_output("display_data", data={"text/markdown": text}),
            v4.new_output("display_data", data={"text/latex": text}),
            v4.new_output("display_data", data={"image/svg+xml": text}),
            v4.new_output("display_data", data={"application/javascript": "alert(1)"}),
            v4.new_output("display_data", data={"image/png": f'"><script>{text}'}),
            v4.new_output("display_data", data={"image/png": PNG}, metadata={"image/png": {"width": f'"{text}'},
                                                                            "filenames": {"image/png": text}}),
            v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": text}}),
            v4.new_output("display_data", data={"text/vnd.mermaid": text}),
            v4.new_output("stream", text=text),
            v4.new_output("execute_result", data={"text/plain": text}),
            v4.new_output("error", ename=text, evalue=text, traceback=[text, f"\x1b[31m{text}\x1b[0m"]),
        ]  # fmt: skip
        code = v4.new_code_cell(f"x = {text!r}", outputs=outputs, execution_count=number)
        code.metadata.update(tags=[f'"{text}'.replace(",", ";")], alt=text, magics_language=text)
        cells += [code, v4.new_markdown_cell(text), v4.new_raw_cell(text, metadata={"raw_mimetype": "text/html"})]
        attached = v4.new_markdown_cell("![x](attachment:x.png)")
        attached["attachments"] = {"x.png": {"image/svg+xml": text, f'image/png"{text}': PNG}}
        graded = v4.new_markdown_cell(text, metadata={"nbgrader": {"grade_id": f'x"{text}', "solution": True}})
        cells += [attached, graded]
    metadata = {
        "title": texts[0],
        "language_info": {"name": texts[0], "pygments_lexer": texts[0]},
        "kernelspec": {"name": texts[0], "display_name": texts[0], "language": texts[0]},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"x": {"state": texts[0]}}}},
    }
    return v4.new_notebook(cells=cells, metadata=metadata)


def feedback_page(notebook: NotebookNode) -> str:
    config = Config()
    config.HTMLExporter.template_name = "feedback"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    css = Path(handlers.static_path) / "node_modules" / "bootstrap" / "dist" / "css"
    config.HTMLExporter.extra_template_paths = [str(css)]
    named = {"notebook": "n", "student": "s", "assignment": "a", "score": 1, "max_score": 2, "late_penalty": 0}
    page, _ = FeedbackExporter(config=config).from_notebook_node(notebook, {"nbgrader": named})
    return page


def formgrader_page(notebook: NotebookNode, course: Path = ROOT) -> str:
    """As the formgrader makes it, with this course's own configuration."""
    config = Course.open(course).config.copy()
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    page, _ = HTMLExporter(config=config).from_notebook_node(notebook, {
        "assignment_id": "a", "notebook_id": "n", "submission_id": "s", "index": 0, "total": 1, "base_url": "",
        "student": "s", "last_name": "", "first_name": "", "notebook_path": "n.ipynb"})  # fmt: skip
    return page


@pytest.mark.parametrize("make", [feedback_page, formgrader_page])
def test_nothing_that_a_student_writes_runs(make) -> None:
    own = len(BeautifulSoup(make(nbformat.v4.new_notebook()), "html.parser")("script"))
    assert own >= 2
    for text in HOSTILE:
        assert dangers(make(notebook_with([text])), own_scripts=own) == [], text
    assert dangers(make(notebook_with(HOSTILE)), own_scripts=own) == []


def test_the_check_itself_sees_what_runs_in_a_stock_page() -> None:
    plain = Path(__file__).parent
    config = Config()
    config.HTMLExporter.template_name = "feedback"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    config.HTMLExporter.extra_template_paths = [
        str(Path(handlers.static_path) / "node_modules" / "bootstrap" / "dist" / "css")]
    named = {"nbgrader": {"notebook": "n", "score": 1, "max_score": 2, "late_penalty": 0}}
    page, _ = HTMLExporter(config=config).from_notebook_node(notebook_with(HOSTILE[2:3]), named)
    assert dangers(page, own_scripts=2), plain


@pytest.mark.parametrize("make", [feedback_page, formgrader_page])
def test_what_a_course_shows_is_still_shown(make) -> None:
    v4 = nbformat.v4
    table = ('<div><style scoped>.dataframe td {}</style><table border="1" class="dataframe"><thead>'
             '<tr style="text-align: right;"><th></th><th>loss</th></tr></thead>'
             '<tbody><tr><th>0</th><td>0.5</td></tr></tbody></table></div>')
    outputs = [
        v4.new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"},
                      metadata={"image/png": {"width": 640}}),
        v4.new_output("execute_result", data={"text/html": table, "text/plain": "   loss"}),
        v4.new_output("stream", text="a < b\n\x1b[31mred\x1b[0m"),
        v4.new_output("display_data", data={"text/latex": r"$\frac{1}{2}$", "text/plain": "1/2"}),
        v4.new_output("display_data", data={"image/svg+xml": SVG}),
        v4.new_output("display_data", data={"text/markdown": "**bold**"}),
        v4.new_output("display_data", data={"application/javascript": "alert(1)", "text/plain": "a widget"}),
    ]  # fmt: skip
    prose = "# Title\n\n$a < b$ and $$\\int_0^1 x\\,dx$$\n\n```python\nfor i in range(3): pass\n```\n\n| a | b |\n" \
            "|---|---|\n| 1 | 2 |\n\n<details><summary>Answer</summary>\n\n*yes*\n</details>\n\n![p](data/p.png) " \
            "[paper](https://arxiv.org/abs/2106.09685)"  # fmt: skip
    attached = v4.new_markdown_cell("![dropped](attachment:x.png)", attachments={"x.png": {"image/png": PNG}})
    cells = [v4.new_code_cell("x", outputs=outputs, execution_count=3), v4.new_markdown_cell(prose), attached]
    soup = BeautifulSoup(make(v4.new_notebook(cells=cells)), "html.parser")
    shown = soup.find(id="notebook-container")
    assert shown is not None
    sources = [image.get("src") for image in shown("img")]
    png = f"data:image/png;base64,{PNG}"
    svg = f"data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}"
    assert sources == [png, svg, "data/p.png", png]
    assert shown("img")[0]["width"] == "640"
    assert shown.find("table", class_="dataframe").find("td").get_text() == "0.5"
    assert shown.find("tr")["style"] == "text-align:right"
    text = shown.get_text()
    for expected in ("a < b\nred", r"$\frac{1}{2}$", "$a < b$", r"$$\int_0^1 x\,dx$$", "a widget", "In\xa0[3]"):
        assert expected in text, expected
    assert shown.find("strong").get_text() == "bold"
    assert shown.find("details").find("summary").get_text() == "Answer"
    assert shown.find("span", class_="k").get_text() == "for"
    assert shown.find("a", href="https://arxiv.org/abs/2106.09685")["rel"] == ["noopener", "noreferrer", "nofollow"]
    assert [cell.get_text() for cell in shown("table")[1]("td")] == ["1", "2"]


def test_a_feedback_page_lets_only_its_mathjax_run() -> None:
    page = feedback_page(nbformat.v4.new_notebook())
    policy = BeautifulSoup(page, "html.parser").find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    assert policy is not None
    assert "script-src https://cdnjs.cloudflare.com 'unsafe-eval';" in policy["content"]
    assert "default-src 'none'" in policy["content"]


@pytest.mark.parametrize("make", [feedback_page, formgrader_page])
@pytest.mark.parametrize("prose", ["![gone](attachment:gone.png) here", "> " * 3000 + "here", "* " * 3000 + "here"])
def test_no_markdown_breaks_a_page(make, prose: str) -> None:
    assert "here" in make(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(prose)]))


def test_output_without_anything_to_show_says_so() -> None:
    output = nbformat.v4.new_output("display_data", data={"text/html": "<script>x</script><style>y</style>"})
    page = feedback_page(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])]))
    assert "(an output of a kind that is not shown here)" in page


def test_clean_keeps_text_and_links() -> None:
    assert clean("<p class='btn k'>a <b>b</b> &lt;c&gt;</p>") == '<p class="k">a <b>b</b> &lt;c&gt;</p>'
    assert clean("<p style='color:red;position:fixed'>x</p>") == '<p style="color:red">x</p>'
