"""What tests share: a plan with changes, and of plug-ins a working folder, and registries as before afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsbench.config.registry import REGISTRIES
from nsbench.storage import code_digest, definitions
from nsbench.workflow import plugins
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from tests.config.test_config import TINY, overlaid, place


def plan_of(*changes: tuple[str, Any], overlay: str = TINY) -> Plan:
    values = overlaid(overlay)
    for path, value in changes:
        values = place(values, path, value)
    return Plan(load(values))


def forget() -> None:
    """Be a process that has loaded no plug-in."""
    for registry in REGISTRIES:
        for name in [name for name, value in registry.items() if value.__module__ in plugins._FILES]:
            del registry[name]
    for module in list(plugins._FILES):
        del plugins._FILES[module], sys.modules[module]
        definitions.elsewhere.pop(module, None)
    code_digest.forget()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder; what a test registers is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    before = [(registry, dict(registry)) for registry in REGISTRIES]
    yield tmp_path
    forget()
    for registry, old in before:
        registry.clear()
        registry.update(old)
