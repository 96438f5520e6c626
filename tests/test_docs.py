"""The documentation: every code block runs and prints what is shown, and the pages build offline without a warning."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

import qeqprop as qp

from .shown import local_links, run_document

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWING = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]

needs_sphinx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("sphinx", "myst_nb", "furo", "latex2mathml"))),
    reason="the extra `docs` is not installed",
)


@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.stem)
def test_code_runs_and_prints_what_is_shown(page: Path):
    ran, compared = run_document(page)
    assert ran >= compared >= 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path):
    assert [target for target in local_links(page) if not (page.parent / target).exists()] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"  # Sphinx puts the figures of notebooks beside it first
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "http_proxy": "http://localhost:9",
        "https_proxy": "http://localhost:9",
    }
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        str(out / ".trees"),
        str(DOCS),
        str(out),
    ]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return out


class Requests(HTMLParser):
    """What a browser fetches without being asked: everything but the links to other pages."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        for name in ("src", "href") if tag in ("script", "img", "link") else ():
            if (target := names.get(name)) and names.get("rel") not in ("index", "search", "next", "prev"):
                self.targets.append(target)


@needs_sphinx
def test_pages_ask_the_network_for_nothing(site: Path):
    for page in site.rglob("*.html"):
        parser = Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        missing = [t for t in parser.targets if not (page.parent / t.partition("?")[0]).exists()]
        assert missing == [], f"{page.name} asks for what is not in the site"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style.name


@needs_sphinx
def test_formulas_are_drawn_by_the_browser(site: Path):
    theory = (site / "theory.html").read_text(encoding="utf-8")
    assert theory.count("<math") > 40
    assert not re.search(r"\\\w+", re.sub(r"<script.*?</script>", "", theory, flags=re.DOTALL))
    for page in site.rglob("*.html"):
        formulas = re.findall(r"<math.*?</math>", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        unknown = {command for formula in formulas for command in re.findall(r"\\\w+", formula)}
        assert unknown == set(), f"{page.name} has LaTeX that became no MathML"


@needs_sphinx
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_pages_with_their_figures(site: Path, notebook: Path):
    page = (site / "notebooks" / f"{notebook.stem}.html").read_text(encoding="utf-8")
    stored = notebook.read_text(encoding="utf-8")
    assert page.count('src="../_images/') == stored.count('"image/png"')
    assert page.count('class="cell_input') == stored.count('"cell_type": "code"')
    assert f"notebooks/{notebook.stem}.html" in (site / "index.html").read_text(encoding="utf-8")


@needs_sphinx
@pytest.mark.parametrize("module", [qp, qp.quantum, qp.classical, qp.plot], ids=lambda module: module.__name__)
def test_every_public_name_is_described(site: Path, module: ModuleType):
    page = {"qeqprop": "main"}.get(module.__name__, module.__name__.rpartition(".")[2])
    text = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
    assert ":math:" not in text, "docstrings write formulas between dollars"
    main = (site / "reference" / "main.html").read_text(encoding="utf-8")
    here = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    names = getattr(module, "__all__", [name for name in here if not name.startswith("_")])
    wanted = {name for name in names if not isinstance(getattr(module, name), ModuleType)}
    assert len(wanted) > 4
    assert wanted - set(re.findall(r'id="qeqprop[\w.]*\.(\w+)"', text + main)) == set()
