"""The text: where it comes from, what it is called, and what is refused."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nsbench.config.base import ConfigError
from nsbench.config.sections import TextSource
from nsbench.data import text_sources
from nsbench.data.text import PARTS, Text, read_text_file, write_text_file
from nsbench.data.text_sources import TextError, TextSpec, from_hub, from_local, make_text, resolve
from nsbench.storage.parquet import read_stamp

LINES = {
    "train": ["", "= One =", "", *(f"the first part has words {number} <unk> ." for number in range(40))],
    "val": ["", "= Two =", *(f"a second part {number} of it ." for number in range(30)), ""],
    "test": ["= Three =", *(f"and a third {number} , at last ." for number in range(20))],
}
FILES = {"train": "train.txt", "val": "valid.txt", "test": "test.txt"}
GENSIM = "Wikipedia excerpt shipped with gensim, not WikiText-2"


def laid_out(lines: list[str]) -> str:
    """As in WikiText's own files: a space at both ends of a line, and one on a blank one."""
    return "".join(f" {line} \n" if line else " \n" for line in lines)


def folder_of(root: Path, *parts: str, names: dict[str, str] = FILES) -> Path:
    folder = root / "copy"
    folder.mkdir()
    for part in parts:
        (folder / names[part]).write_text(laid_out(LINES[part]), encoding="utf-8")
    return folder


def spec(source: str, path: Path | None = None) -> TextSpec:
    return TextSpec(source=source, path=None if path is None else str(path), fingerprint="")


def whole(text: Text) -> dict[str, list[str]]:
    return {part: list(getattr(text, part)) for part in PARTS}


@pytest.fixture
def stands_for_wikitext(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small text of this module be what WikiText-2 must be."""
    for part, lines in LINES.items():
        sha1 = hashlib.sha1(laid_out(lines).encode()).hexdigest()
        monkeypatch.setitem(text_sources.WIKITEXT_2_SHA1, part, sha1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that lets the hub give these lines, in rows as the hub's files have them."""

    def serve(**changed: list[str]) -> None:
        for part, name in text_sources.HUB_FILES.items():
            path = tmp_path / "hub" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [f" {line} \n" if line else "" for line in (LINES | changed)[part]]
            pq.write_table(pa.table({"text": rows}), path)
        monkeypatch.setattr(text_sources, "_download", lambda name: tmp_path / "hub" / name)

    return serve


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Path:
        raise ConnectionError("no route to hidden.example.org")

    monkeypatch.setattr(text_sources, "_download", fail)


@pytest.fixture(autouse=True)
def _few_words_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_sources, "LEAST_WORDS", 30)


# --- the file ------------------------------------------------------------------------------------------


def test_a_text_survives_its_file_line_by_line(tmp_path: Path) -> None:
    text = Text("a label", **{part: tuple(lines) for part, lines in LINES.items()})
    write_text_file(tmp_path / "text.parquet", text, {"commit": "abc"})
    assert read_text_file(tmp_path / "text.parquet") == text
    assert read_stamp(tmp_path / "text.parquet") == {"commit": "abc", "text": "a label"}


# --- the choice ----------------------------------------------------------------------------------------


def test_the_path_of_config_wins_over_the_environments(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    environment = {"NSBENCH_WIKITEXT2": str(tmp_path / "b.txt")}
    for source in ("local", "auto"):
        assert resolve(TextSource(source=source, path=str(tmp_path / "a.txt")), environment).path.endswith("a.txt")
        assert resolve(TextSource(source=source), environment).path.endswith("b.txt")
    assert resolve(TextSource(source="auto"), {"NSBENCH_WIKITEXT2": ""}) == spec("auto")
    for source in ("hub", "embedded"):
        assert resolve(TextSource(source=source, path="/nowhere"), environment) == spec(source)


def test_a_path_must_be_given_and_there() -> None:
    with pytest.raises(ConfigError, match=r"^text\.path = '/nowhere' cannot be read \(No such file or directory\)"):
        resolve(TextSource(source="auto", path="/nowhere"), {"NSBENCH_WIKITEXT2": "/"})
    with pytest.raises(ConfigError, match=r"^\$NSBENCH_WIKITEXT2 = '/nowhere' cannot be read"):
        resolve(TextSource(source="local"), {"NSBENCH_WIKITEXT2": "/nowhere"})
    with pytest.raises(ConfigError, match=r"'/a/\{x\}': braces in a path are a wildcard to Snakemake; rename it"):
        resolve(TextSource(source="local"), {"NSBENCH_WIKITEXT2": "/a/{x}"})
    with pytest.raises(ConfigError, match=r"text\.source = 'local' needs text\.path or \$NSBENCH_WIKITEXT2"):
        resolve(TextSource(source="local"), {"NSBENCH_WIKITEXT2": ""})


def test_an_edited_file_changes_the_fingerprint_and_a_stray_one_does_not(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, *PARTS)
    settings = TextSource(source="local", path=str(folder))
    before = resolve(settings, {}).fingerprint
    (folder / "README.md").write_text("stray")
    assert resolve(settings, {}).fingerprint == before
    (folder / "test.txt").write_text("edited")
    after = resolve(settings, {}).fingerprint
    (folder / "test.txt").rename(folder / "train.txt")
    assert len({before, after, resolve(settings, {}).fingerprint}) == 3


# --- the hub -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stands_for_wikitext")
def test_the_hubs_rows_are_lines(hub: Callable[..., None]) -> None:
    hub()
    text = from_hub()
    assert text.label == "WikiText-2"
    assert whole(text) == LINES


@pytest.mark.usefixtures("stands_for_wikitext")
def test_a_changed_part_of_the_hub_is_refused(tmp_path: Path, hub: Callable[..., None]) -> None:
    """One word replaced by another."""
    hub(val=[line.replace(" part ", " hole ") for line in LINES["val"]])
    with pytest.raises(TextError, match=f"{text_sources.HUB_FILES['val']} .* has a wrong checksum"):
        make_text(spec("hub"), tmp_path / "out" / "text.parquet", {})
    assert not (tmp_path / "out").exists()


def test_a_broken_file_of_the_hub_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_sources, "_download", lambda name: tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TextError, match="not a whole Parquet file of text"):
        from_hub()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """huggingface_hub's calls, recorded; nothing is on this machine yet, and the hub answers."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    calls: list[tuple[str, Any]] = []

    def hf_hub_download(**wanted: Any) -> str:
        calls.append(("download", wanted))
        if wanted.get("local_files_only"):
            raise LocalEntryNotFoundError("not in the cache")
        return "/cache/file"

    class Session:
        def head(self, url: str, timeout: float) -> None:
            calls.append(("head", timeout))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    return calls


def test_the_pinned_revision_is_asked_for_after_one_short_request(library: list[tuple[str, Any]]) -> None:
    assert text_sources._download("wikitext-2-v1/test-00000-of-00001.parquet") == Path("/cache/file")
    file = {
        "repo_id": "Salesforce/wikitext",
        "filename": "wikitext-2-v1/test-00000-of-00001.parquet",
        "repo_type": "dataset",
        "revision": "b08601e04326c79dfdd32d625aee71d232d685c3",
    }
    assert library == [
        ("download", {**file, "local_files_only": True}),
        ("head", 5.0),
        ("download", {**file, "etag_timeout": 5.0}),
    ]


# --- local files ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stands_for_wikitext")
@pytest.mark.parametrize(
    "names",
    [
        FILES,
        {"train": "wiki.train.tokens", "val": "wiki.valid.tokens", "test": "wiki.test.tokens"},
        {"train": "wiki.train.tokens", "val": "val.txt", "test": "test.txt"},
    ],
)
def test_a_folder_of_wikitext_2_is_known_as_such(tmp_path: Path, names: dict[str, str]) -> None:
    folder = folder_of(tmp_path, *PARTS, names=names)
    (folder / names["test"]).write_bytes("\r\n".join([*LINES["test"], ""]).encode())  # other line ends
    text = from_local(folder)
    assert text.label == "WikiText-2"
    assert whole(text) == LINES
    file = folder / names["val"]
    file.write_text(file.read_text().replace(" part ", " hole ", 1))
    assert from_local(folder).label == "local text (copy), not WikiText-2"


@pytest.mark.usefixtures("stands_for_wikitext")
def test_without_train_most_of_valid_takes_its_place(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "val", "test")
    text = from_local(folder)
    assert text.label == "WikiText-2 without its training split"
    assert whole(text) == {"train": LINES["val"][:23], "val": LINES["val"][23:], "test": LINES["test"]}  # 33 x 0.7
    (folder / "test.txt").write_text("another text " * 50)
    assert from_local(folder).label == "local text (copy), not WikiText-2"


def test_a_file_is_cut_in_three(tmp_path: Path) -> None:
    lines = [f"line {number} of this file" for number in range(75)]
    (tmp_path / "book.txt").write_text("\n".join(lines))  # no line end at the last line
    text = from_local(tmp_path / "book.txt")
    assert text.label == "local text (book.txt), not WikiText-2"
    assert whole(text) == {"train": lines[:60], "val": lines[60:67], "test": lines[67:]}


def test_words_stand_apart_by_one_space_and_only_line_feeds_end_lines(tmp_path: Path) -> None:
    content = "\ta\u2003b  c\u2028d\x0ce \r\n\n" * 80
    (tmp_path / "book.txt").write_bytes(content.encode())
    assert from_local(tmp_path / "book.txt").train == ("a b c d e", "") * 64


GOOD = ("some words " * 40).encode()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"test.txt": GOOD}, "copy has no val part; one of valid.txt, validation.txt, val.txt, wiki.valid.tokens is"),
        ({"valid.txt": GOOD, "val.txt": GOOD, "test.txt": GOOD}, "valid.txt and val.txt, which are the same part"),
        ({"valid.txt": GOOD, "test.txt": b"ab\xffcd"}, "test.txt is not UTF-8 at byte offset 2"),
        ({"train.txt": b"few words", "valid.txt": GOOD, "test.txt": GOOD}, "its train part has 2 words"),
        ({"valid.txt": GOOD, "test.txt": GOOD}, "its train part has 0 words (is it truncated"),  # one line
    ],
)
def test_a_bad_folder_is_refused_and_nothing_is_left(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    folder = folder_of(tmp_path)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(TextError) as raised:
        make_text(spec("local", folder), tmp_path / "out" / "text.parquet", {})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


# --- auto ----------------------------------------------------------------------------------------------


@pytest.fixture
def excerpt(monkeypatch: pytest.MonkeyPatch) -> Text:
    text = Text(GENSIM, ("a",), ("b",), ("c",))
    monkeypatch.setattr(text_sources, "from_gensim", lambda: text)
    return text


def made_by_auto(root: Path, path: Path | None) -> Text:
    make_text(spec("auto", path), root / "text.parquet", {})
    read_text_file.cache_clear()
    return read_text_file(root / "text.parquet")


@pytest.mark.usefixtures("stands_for_wikitext", "excerpt")
def test_auto_takes_the_hub_first(tmp_path: Path, hub: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    hub()
    assert made_by_auto(tmp_path, folder_of(tmp_path)).label == "WikiText-2"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("unreachable", "excerpt")
def test_auto_goes_on_to_the_local_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = made_by_auto(tmp_path, folder_of(tmp_path, *PARTS))
    assert text.label == "local text (copy), not WikiText-2"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith("WikiText-2 cannot be fetched from the Hugging Face hub (ConnectionError)")
    assert warning.endswith(": the local text is used instead")


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("with_path", [True, False])
def test_auto_ends_with_the_excerpt(
    tmp_path: Path, excerpt: Text, caplog: pytest.LogCaptureFixture, with_path: bool
) -> None:
    assert made_by_auto(tmp_path, folder_of(tmp_path, "val") if with_path else None) == excerpt
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 + with_path
    assert warnings[-1].endswith(": the Wikipedia excerpt shipped with gensim is used instead")
    assert not with_path or "copy has no test part" in warnings[-1]


# --- the texts themselves ------------------------------------------------------------------------------


def test_the_excerpt_is_106_articles_and_no_paragraph_is_in_two_parts(tmp_path: Path) -> None:
    make_text(spec("embedded"), tmp_path / "text.parquet", {})
    text = read_text_file(tmp_path / "text.parquet")
    assert text.label == GENSIM
    assert {part: sum(len(line.split()) for line in getattr(text, part)) for part in PARTS} == {
        "train": 440_295,
        "val": 69_075,
        "test": 76_042,
    }
    assert text.train[0].startswith("Anarchism is a political philosophy that advocates self - governed societies")
    assert text.train[2] == "= = Etymology and terminology = ="
    assert all(line and line == " ".join(line.split()) for part in PARTS for line in getattr(text, part))
    long = {part: {line for line in getattr(text, part) if len(line.split()) > 20} for part in PARTS}
    assert not long["train"] & long["val"] | long["train"] & long["test"] | long["val"] & long["test"]


def test_markup_is_no_text() -> None:
    plain = "\n\n'''Ada''' may refer to:\n==Food==\n* ''Ada'' (food), X's dish\n:;#*\n"
    assert text_sources._article(plain) == [
        "Ada may refer to :",
        "= = Food = =",
        "Ada ( food ) , X ' s dish",
    ]
    assert text_sources._article("\n #REDIRECT Ivory tower\n") == []


BESIDE = Path(__file__).parents[3] / "shared/data/wikitext-2"
COPY = os.environ.get("NSBENCH_WIKITEXT2") or (str(BESIDE) if BESIDE.is_dir() else "")


@pytest.mark.skipif(not COPY, reason="$NSBENCH_WIKITEXT2 names no copy of WikiText-2")
def test_a_real_copy_has_the_published_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_sources, "LEAST_WORDS", 100)
    text = from_local(Path(COPY))
    assert text.label in ("WikiText-2", "WikiText-2 without its training split")
    parts = {"test": text.test, "val": text.val if text.label == "WikiText-2" else text.train + text.val}
    sums = {part: hashlib.sha256("\n".join(lines).encode()).hexdigest() for part, lines in parts.items()}
    assert sums == {
        "test": "8478aba25f5dc4cae6e2fc005c52856414f5bf2ad83be0f2f6e478df1eb1aa3d",
        "val": "0f4c2e4bad0113c455ff10e3049e5dbec4161ecf03ab955d6ff7098f0cad6ce3",
    }
    assert {part: len(lines) for part, lines in parts.items()} == {"test": 4358, "val": 3760}
    assert {part: sum(len(line.split()) for line in lines) for part, lines in parts.items()} == {
        "test": 241_211,
        "val": 213_886,
    }
