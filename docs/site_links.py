"""A hook of mkdocs: pages beside `docs/` join the site, and links keep working in it.

Links are written for readers of the repository. Here all pages lie in one folder, so `../CONTRIBUTING.md` becomes
`CONTRIBUTING.md`, and in the README `docs/format.md` becomes `format.md`. What the site does not hold, such as sources,
is named instead of linked.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LOG = get_plugin_logger("site_links")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in ROOT_PAGES:
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    folder = "" if page.file.src_uri in ROOT_PAGES else "docs"
    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(lambda link: rewritten(link, folder), text) for text in parts[::2]]
    return "".join(parts)


def rewritten(link: re.Match[str], folder: str) -> str:
    """Return a link of a page in `folder`, "" or "docs", as the site has it."""
    bang, text, target, anchor = link.groups("")
    path = PurePosixPath(normpath(f"{folder}/{target}".lstrip("/")))
    if path.parts[0] == "docs" or str(path) in ROOT_PAGES:
        return f"{bang}[{text}]({path.name}{anchor})"
    if not (ROOT / path).exists():
        LOG.warning("the repository has no %s, to which [%s] links", path, text)  # which ends a strict build
    return text if f"{path}" in text else f"{text} (`{path}`)"
