"""docs/errata.md: every entry names the tests that show it, and every such test is named."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parents[1] / "docs" / "errata.md"


def test_each_number_has_one_entry_and_each_entry_names_tests_that_exist() -> None:
    text = DOCUMENT.read_text()
    in_table = [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    entries = re.split(r"^### (\d+)\. ", text, flags=re.MULTILINE)[1:]
    numbers = [int(number) for number in entries[::2]]
    assert numbers == in_table == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 29
    named: set[tuple[str, str]] = set()
    for number, entry in zip(numbers, entries[1::2], strict=True):
        tests = re.findall(r"tests/theory/(test_errata_\w+)\.py::(\w+)", entry)
        assert tests, f"entry {number} names no test"
        named.update(tests)
    there = {
        (path.stem, name)
        for path in FOLDER.glob("test_errata_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named == there
