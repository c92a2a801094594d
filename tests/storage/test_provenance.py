"""What a file says of the code that made it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsbench.storage import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that `commit` looks at instead of the package's."""
    (tmp_path / "cli.py").write_text("x = 1")
    monkeypatch.setattr(provenance, "SOURCE_FOLDER", tmp_path)
    provenance.commit.cache_clear()
    yield tmp_path
    provenance.commit.cache_clear()


def test_the_commit_says_whether_files_differ_from_it(checkout: Path) -> None:
    assert provenance.commit() == "unknown"  # outside git
    git = ["git", "-C", str(checkout), "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    provenance.commit.cache_clear()
    assert provenance.commit() == head
    (checkout / "cli.py").write_text("")
    provenance.commit.cache_clear()
    assert provenance.commit() == f"{head}+changes"
