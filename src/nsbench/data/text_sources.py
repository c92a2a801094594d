"""Where the text of next-token prediction comes from: the Hugging Face hub, local files, or gensim.

The paper's text is WikiText-2-v1 (Merity et al., 2016, arXiv:1609.07843), under CC BY-SA. What is
used instead of it says so in its label. The one room that uses gensim.
"""

from __future__ import annotations

import bz2
import hashlib
import importlib.resources
import itertools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nsbench.config.base import Closed, ConfigError, Words
from nsbench.config.sections import TextSource
from nsbench.data import hub
from nsbench.data.text import PARTS, Text, write_text_file

logger = logging.getLogger(__name__)

VARIABLE = "NSBENCH_WIKITEXT2"
LEAST_WORDS = 100
"""A part of a text with fewer words than this is taken for a truncated one."""

HUB_REPOSITORY = "Salesforce/wikitext"
HUB_REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
HUB_FILES = {
    "train": "wikitext-2-v1/train-00000-of-00001.parquet",
    "val": "wikitext-2-v1/validation-00000-of-00001.parquet",
    "test": "wikitext-2-v1/test-00000-of-00001.parquet",
}

EXCERPT = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
EXCERPT_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"

FILE_NAMES = {
    "train": ("train.txt", "wiki.train.tokens"),
    "val": ("valid.txt", "validation.txt", "val.txt", "wiki.valid.tokens"),
    "test": ("test.txt", "wiki.test.tokens"),
}
"""The files of a local folder; the names `wiki.*.tokens` are WikiText-2's own and must hold it."""

INSTEAD = {
    "local": "the local text is used instead",
    "embedded": "the Wikipedia excerpt shipped with gensim is used instead",
}


class TextError(ValueError):
    """A text that cannot be had or is not what it should be; the message says what to do."""


class TextSpec(Closed):
    """All that the text stage reads: config's choice, and the bytes of the local files it names."""

    source: Literal["auto", "hub", "local", "embedded"]
    path: Words | None
    fingerprint: str
    """sha256 of the local files, so that an edited file is noticed; empty without any."""


@dataclass(frozen=True)
class _Part:
    """The lines of a part: words apart by single spaces; and the bytes that they were read from."""

    lines: tuple[str, ...]
    original: bytes

    @property
    def n_words(self) -> int:
        return sum(len(line.split()) for line in self.lines)


@dataclass(frozen=True)
class _Known:
    """What a part of WikiText-2 must be: the size, and the sha1 of its file `wiki.*.tokens`."""

    n_lines: int
    n_words: int
    sha1: str

    def is_this(self, part: _Part) -> bool:
        """Whether it is, as it came or with its lines laid out as in the original file."""
        laid_out = "".join(f" {line} \n" if line else " \n" for line in part.lines).encode()
        sums = {hashlib.sha1(data, usedforsecurity=False).hexdigest() for data in (part.original, laid_out)}
        return (len(part.lines), part.n_words) == (self.n_lines, self.n_words) and self.sha1 in sums


# The sums are those that GluonNLP and MXNet publish for the original files. Of the hub's Parquet files
# themselves no sums were found in public records, so what is in them is compared with the originals.
WIKITEXT_2 = {
    "train": _Known(36718, 2051910, "863f29c46ef9d167fff4940ec821195882fe29d1"),
    "val": _Known(3760, 213886, "0418625c8b4da6e4b5c7a0b9e78d4ae8f7ee5422"),
    "test": _Known(4358, 241211, "c7b8ce0aa086fb34dab808c5c49224211eb2b172"),
}


def resolve(settings: TextSource, environment: Mapping[str, str]) -> TextSpec:
    """The text stage's spec: the path from config, or else from the environment, and its fingerprint.

    Raises ConfigError where a path that is needed or named is not there or cannot be read.
    """
    if settings.source in ("hub", "embedded"):
        return TextSpec(source=settings.source, path=None, fingerprint="")
    given = settings.path or environment.get(VARIABLE)
    path = str(Path(given).expanduser()) if given else None
    if path is None:
        if settings.source == "local":
            raise ConfigError(
                f"text.source = 'local' needs text.path or ${VARIABLE}, and neither is set; a text file or a folder "
                "of train, valid and test is allowed"
            )
        return TextSpec(source=settings.source, path=None, fingerprint="")
    name = "text.path" if settings.path else f"${VARIABLE}"
    if not Path(path).exists():
        raise ConfigError(f"{name} = {given!r} does not exist; a text file or a folder of text files is allowed")
    try:
        return TextSpec(source=settings.source, path=path, fingerprint=_fingerprint(Path(path)))
    except OSError as error:
        raise ConfigError(f"{name} = {path!r} cannot be read ({error.strerror}); a readable text is allowed") from error


def _fingerprint(path: Path) -> str:
    names = [name for part in PARTS for name in FILE_NAMES[part]]
    files = [path / name for name in names if (path / name).is_file()] if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def make_text(spec: TextSpec, out: Path, stamp: dict[str, str]) -> None:
    """The text stage: fetch the text, check it, and write it whole.

    Raises TextError: one sentence with what is wrong and what to do. `auto` goes on to its next
    source instead, and says so in a warning, until none is left.
    """
    text = _auto(spec) if spec.source == "auto" else _fetch(spec.source, spec.path)
    logger.info("text: %s; %s lines", text.label, ", ".join(f"{len(getattr(text, part))} {part}" for part in PARTS))
    write_text_file(out, text, stamp)


def _auto(spec: TextSpec) -> Text:
    sources = ["hub", "local", "embedded"] if spec.path else ["hub", "embedded"]
    for source, following in itertools.pairwise(sources):
        try:
            return _fetch(source, spec.path)
        except TextError as error:
            logger.warning("%s: %s", error, INSTEAD[following])
    return _fetch(sources[-1], spec.path)


def _fetch(source: str, path: str | None) -> Text:
    if source == "hub":
        return from_hub()
    if source == "embedded":
        return from_gensim()
    if not path:
        raise TextError(f"source = 'local' has no path; set text.path or ${VARIABLE} to a text")
    return from_local(Path(path))


def from_hub() -> Text:
    """WikiText-2 from the Hugging Face hub at a pinned revision, compared with the original files.

    Raises TextError where the hub cannot be reached or gives something else.
    """
    parts = {part: _hub_part(part, name) for part, name in HUB_FILES.items()}
    return Text("WikiText-2", **{part: found.lines for part, found in parts.items()})


def _hub_part(part: str, name: str) -> _Part:
    instead = f"set text.path or ${VARIABLE} to a copy of WikiText-2, or text.source to 'embedded'"
    try:
        path = _download(name)
    except ImportError:
        raise
    except Exception as error:  # The hub's library lets the errors of several layers through.
        kind = type(error).__name__
        raise TextError(f"WikiText-2 cannot be fetched from the Hugging Face hub ({kind}); {instead}") from error
    try:
        column = pq.read_table(path, columns=["text"])["text"]
        # Whatever else a foreign file has there, its checksum is refused below.
        rows = column.cast(pa.string()).fill_null("").to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise TextError(f"{name} from the Hugging Face hub is not a whole Parquet file of text; {instead}") from error
    # The hub keeps each line with its end, but a blank line, " \n" in the original file, as "".
    found = _Part(tuple(_words_apart(row) for row in rows), "".join(row or " \n" for row in rows).encode())
    if not WIKITEXT_2[part].is_this(found):
        raise TextError(
            f"{name} from the Hugging Face hub has a wrong checksum ({len(found.lines)} lines, {found.n_words} words) "
            f"and is not WikiText-2; remove it from the hub's cache and try again, or {instead}"
        )
    return found


def _download(name: str) -> Path:
    """A file of the pinned revision, from the hub's cache on this machine or from the hub."""
    return hub.download(HUB_REPOSITORY, HUB_REVISION, name, "dataset")


def from_local(path: Path) -> Text:
    """A text from a folder of train, valid and test, or from one file cut 80 : 10 : 10 by lines.

    Without train, the first 70% of valid's lines take its place. The label is WikiText-2's only
    where all three parts are. Raises TextError where files are missing, broken or too short.
    """
    name = path.resolve().name
    if not path.is_dir():
        lines = _read(path).lines
        cuts = [len(lines) * share // 10 for share in (8, 9)]
        pieces = (lines[: cuts[0]], lines[cuts[0] : cuts[1]], lines[cuts[1] :])
        return _enough(Text(f"local text ({name}), not WikiText-2", *pieces))
    parts = {part: _read(file) for part in PARTS if (file := _file_of(path, part))}
    same = all(WIKITEXT_2[part].is_this(found) for part, found in parts.items())
    val, test = parts["val"].lines, parts["test"].lines
    if "train" in parts:
        label = "WikiText-2" if same else f"local text ({name}), not WikiText-2"
        return _enough(Text(label, parts["train"].lines, val, test))
    label = "WikiText-2 without its training split" if same else f"local text ({name}), not WikiText-2"
    cut = len(val) * 7 // 10
    return _enough(Text(label, val[:cut], val[cut:], test))


def _file_of(folder: Path, part: str) -> Path | None:
    found = [folder / name for name in FILE_NAMES[part] if (folder / name).is_file()]
    if len(found) > 1:
        both = " and ".join(file.name for file in found)
        raise TextError(f"{folder} has {both}, which are the same part of a text; one of them is allowed")
    if not found and part != "train":
        raise TextError(f"{folder} has no {part} part; one of {', '.join(FILE_NAMES[part])} is needed")
    return found[0] if found else None


def _read(path: Path) -> _Part:
    """A UTF-8 text file; one with the name of an original file must be it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror}); give a readable text file") from error
    if not data.strip():
        raise TextError(f"{path} is empty; a text of at least {LEAST_WORDS} words is allowed")
    if b"\0" in data:
        raise TextError(f"{path} has a NUL byte at offset {data.index(0)}; only text is allowed")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 at byte offset {error.start}; only UTF-8 text is allowed") from error
    if not lines[-1]:
        lines.pop()  # What follows the last line's end is no line.
    found = _Part(tuple(map(_words_apart, lines)), data)
    for part, names in FILE_NAMES.items():
        if path.name == names[-1] and not WIKITEXT_2[part].is_this(found):
            raise TextError(
                f"{path} is not WikiText-2's file of that name but truncated or changed ({len(found.lines)} lines, "
                f"{found.n_words} words); fetch it again, or call another text {names[0]}"
            )
    return found


def _words_apart(line: str) -> str:
    return " ".join(line.split())


def _enough(text: Text) -> Text:
    for part in PARTS:
        n_words = sum(len(line.split()) for line in getattr(text, part))
        if n_words < LEAST_WORDS:
            raise TextError(
                f"{text.label}: its {part} part has {n_words} words (is it truncated, or without line ends, at which "
                f"it is cut?); at least {LEAST_WORDS} are allowed"
            )
    return text


def from_gensim() -> Text:
    """106 Wikipedia articles that gensim ships as test data, cut 80 : 10 : 10 by articles, in order.

    The articles are their authors', under CC BY-SA 3.0, as all of Wikipedia's at that time.
    Paragraphs are lines; there are no blank ones. Words and single punctuation marks stand apart.
    Raises TextError where gensim ships another file.
    """
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    path = Path(str(importlib.resources.files("gensim") / "test" / "test_data" / EXCERPT))
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != EXCERPT_SHA256:
        raise TextError(
            f"this version of gensim does not ship {EXCERPT} as expected; install gensim 4.4.0, or set text.path or "
            f"${VARIABLE} to a text"
        )
    with bz2.open(path) as file:
        articles = [lines for _, markup, _ in extract_pages(file) if (lines := _article(filter_wiki(markup)))]
    cuts = [len(articles) * share // 10 for share in (8, 9)]
    pieces = (articles[: cuts[0]], articles[cuts[0] : cuts[1]], articles[cuts[1] :])
    label = "Wikipedia excerpt shipped with gensim, not WikiText-2"
    return _enough(Text(label, *(tuple(line for lines in piece for line in lines) for piece in pieces)))


def _article(plain: str) -> list[str]:
    """The paragraphs of an article; none where it only points to another one."""
    if plain.lstrip().lower().startswith("#redirect"):
        return []
    # Marks of lists at a line's start, and of bold and italics, are no text.
    bare = (re.sub(r"''+", " ", line.strip().lstrip("*#:;")) for line in plain.split("\n"))
    return [" ".join(words) for line in bare if (words := re.findall(r"\w+|[^\w\s]", line))]
