"""What mkdocs does beyond Markdown: notebooks and the repository's own pages join the site, commands say their help.

Runs no notebook and imports nothing of steergraph but its command line.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OWN_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)]*)?\)")
_FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
_HELP = re.compile(r"^<!-- help: (.*?) -->$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages that are not Markdown files below docs/: the repository's own, and the notebooks."""
    for name, source in OWN_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_from_docs(text)))
    for path in sorted((ROOT / "docs" / "tutorial").glob("*.ipynb")):
        page = notebook_page(json.loads(path.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"tutorial/{path.stem}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links to what the site does not hold become the path's name; `<!-- help: WORDS -->` becomes what it prints."""
    here = (ROOT / "docs" / page.file.src_uri).parent

    def kept(link: re.Match[str]) -> str:
        bang, text, target, _ = link.groups()
        inside = (here / target).resolve().is_relative_to(ROOT / "docs") and not target.endswith("/")
        return link[0] if inside or "://" in target or bang else f"{text} (`{os.path.relpath(here / target, ROOT)}`)"

    return _HELP.sub(lambda found: f"```text\n{help_of(found[1])}\n```", _LINK.sub(kept, markdown))


def on_post_build(config: MkDocsConfig) -> None:
    """Raises PluginError where a page would have its reader's browser fetch something from elsewhere."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        for tag in _FETCHED.findall(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.relative_to(config.site_dir)}: it fetches something from elsewhere: {tag[:160]}")


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook's cells as Markdown: texts as they are, code fenced, and what it printed below it."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join("".join(output.get("text", ())) for output in cell["outputs"]).rstrip()
        if printed:
            parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n"


def help_of(words: str) -> str:
    """What `steergraph WORDS --help` prints, 100 columns wide and without colours."""
    command = [sys.executable, "-m", "steergraph", *words.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def _from_docs(text: str) -> str:
    """A page of the repository's top, as docs/ sees it: links into docs/ lose that folder, others go one up."""

    def moved(link: re.Match[str]) -> str:
        bang, label, target, anchor = link.groups()
        if "://" in target:
            return link[0]
        inside = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        return f"{bang}[{label}]({inside}{anchor or ''})"

    return _LINK.sub(moved, text)
