"""What mkdocs is told beside mkdocs.yml: README is the first page, and links into the repository lead to copies.

A file of the repository has its own path on the site, but for README.md, docs/ and this folder's api.md.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
BEGIN = ("README.md", "CHANGELOG.md", "config/README.md", ".github/site/api.md")
PLACES = {"README.md": "index.md", ".github/site/api.md": "api.md"}
LINK = re.compile(r"(?<!`)(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s#:]+)(#[^)\s]*)?\)")


def place(path: str) -> str:
    """Where a file of the repository is on the site."""
    return PLACES.get(path, path.removeprefix("docs/"))


def target(page: str, link: str) -> str | None:
    """The file of the repository that a link on a page means: of a folder its README, None where it has none."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
        return path if (ROOT / path).is_file() else None
    return path


def text(page: str) -> str:
    """A page's text with its links as they are on the site; of a link to a folder only its words."""

    def moved(found: re.Match[str]) -> str:
        words, link, anchor = found.groups()
        path = target(page, link)
        if path is None:
            return words.strip("![]")
        here = posixpath.dirname(place(page)) or "."
        return f"{words}({posixpath.relpath(place(path), here)}{anchor or ''})"

    return LINK.sub(moved, (ROOT / page).read_text(encoding="utf-8"))


def on_files(files: Files, config: Any) -> Files:
    """All pages, and what they link to, as far as that is in the repository."""
    waiting = [*BEGIN, *(f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md"))]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        is_page = path.endswith(".md")
        old = files.get_file_from_path(place(path))
        if old is not None:
            files.remove(old)
        if not is_page:
            files.append(File.generated(config, place(path), abs_src_path=str(ROOT / path)))
            continue
        files.append(File.generated(config, place(path), content=text(path)))
        for _, link, _ in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
            linked = target(path, link)
            if linked is not None and linked not in seen and (ROOT / linked).is_file():
                seen.add(linked)
                waiting.append(linked)
    return files
