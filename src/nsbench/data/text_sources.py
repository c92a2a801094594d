"""Where the text of next-token prediction comes from: the Hugging Face hub, local files, or gensim.

The paper's text is WikiText-2-v1 (Merity et al., 2016, arXiv:1609.07843), under CC BY-SA. What is
used instead of it says so in its label. The one module that uses gensim.
"""

from __future__ import annotations

import bz2
import hashlib
import importlib.resources
import itertools
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nsbench.config.base import Closed, ConfigError, Words
from nsbench.config.loader import refuse_braces
from nsbench.config.sections import TextSource
from nsbench.data import hub
from nsbench.data.text import PARTS, Text, write_text_file

logger = logging.getLogger(__name__)

VARIABLE = "NSBENCH_WIKITEXT2"
LEAST_WORDS = 100
"""A part of a text with fewer words than this is taken for a truncated one."""

WIKITEXT_2_SHA1 = {
    "train": "863f29c46ef9d167fff4940ec821195882fe29d1",
    "val": "0418625c8b4da6e4b5c7a0b9e78d4ae8f7ee5422",
    "test": "c7b8ce0aa086fb34dab808c5c49224211eb2b172",
}
"""Of the original files `wiki.*.tokens`, as GluonNLP and MXNet publish them; of the hub's own files no sums are."""

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
"""The files of a local folder."""

INSTEAD = {
    "local": "the local text is used instead",
    "embedded": "the Wikipedia excerpt shipped with gensim is used instead",
}


class TextError(ValueError):
    """A text that cannot be had or is not what it should be; the message says what to do."""


class TextSpec(Closed):
    """All that the text stage reads: config's choice, and the bytes of the local files it names."""

    source: Literal["auto", "hub", "local", "embedded"]
    path: Words | None = None
    fingerprint: str = ""
    """sha256 of the local files, so that an edited file is noticed; empty without any."""


def resolve(settings: TextSource, environment: Mapping[str, str]) -> TextSpec:
    """The text stage's spec: the path from config, or else from the environment, and its fingerprint.

    Raises ConfigError where a path that is needed or named is not there, cannot be read or has braces.
    """
    given = settings.path or environment.get(VARIABLE)
    if settings.source == "local" and not given:
        raise ConfigError(
            f"text.source = 'local' needs text.path or ${VARIABLE}, and neither is set; a text file or a folder "
            "of train, valid and test is allowed"
        )
    if settings.source in ("hub", "embedded") or not given:
        return TextSpec(source=settings.source)
    path, name = Path(given).expanduser(), "text.path" if settings.path else f"${VARIABLE}"
    refuse_braces([str(path)])
    try:
        return TextSpec(source=settings.source, path=str(path), fingerprint=_fingerprint(path))
    except OSError as error:
        raise ConfigError(
            f"{name} = {given!r} cannot be read ({error.strerror}); a text file or a folder of text files is allowed"
        ) from error


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
    sources = [spec.source]
    if spec.source == "auto":
        sources = ["hub", "local", "embedded"] if spec.path else ["hub", "embedded"]
    for source, following in itertools.pairwise([*sources, None]):
        try:
            text = _fetch(source, spec.path)
            break
        except TextError as error:
            if following is None:
                raise
            logger.warning("%s: %s", error, INSTEAD[following])
    logger.info("text: %s; %s lines", text.label, ", ".join(f"{len(getattr(text, part))} {part}" for part in PARTS))
    write_text_file(out, text, stamp)


def _fetch(source: str, path: str | None) -> Text:
    return from_hub() if source == "hub" else from_gensim() if source == "embedded" else from_local(Path(path))


def from_hub() -> Text:
    """WikiText-2 from the Hugging Face hub at a pinned revision, compared with the original files.

    Raises TextError where the hub cannot be reached or gives something else.
    """
    return Text("WikiText-2", **{part: _hub_part(part, name) for part, name in HUB_FILES.items()})


def _hub_part(part: str, name: str) -> tuple[str, ...]:
    instead = f"set text.path or ${VARIABLE} to a copy of WikiText-2, or text.source to 'embedded'"
    try:
        path = _download(name)
    except ImportError:
        raise
    except Exception as error:  # The hub's library lets the errors of several layers through.
        kind = type(error).__name__
        raise TextError(f"WikiText-2 cannot be fetched from the Hugging Face hub ({kind}); {instead}") from error
    try:
        rows = pq.read_table(path, columns=["text"])["text"].cast(pa.string()).fill_null("").to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise TextError(f"{name} from the Hugging Face hub is not a whole Parquet file of text; {instead}") from error
    lines = _lines(rows)
    # The hub keeps each line with its end, but a blank line, " \n" in the original file, as "".
    if not _is_wikitext_2(part, lines, "".join(row or " \n" for row in rows).encode()):
        raise TextError(
            f"{name} from the Hugging Face hub has a wrong checksum and is not WikiText-2; remove it from the hub's "
            f"cache and try again, or {instead}"
        )
    return lines


def _download(name: str) -> Path:
    """A file of the pinned revision, from the hub's cache on this machine or from the hub."""
    return hub.download(HUB_REPOSITORY, HUB_REVISION, name, "dataset")


def _lines(raw: Iterable[str]) -> tuple[str, ...]:
    """Lines with their words apart by single spaces."""
    return tuple(" ".join(line.split()) for line in raw)


def _is_wikitext_2(part: str, lines: tuple[str, ...], original: bytes) -> bool:
    """Whether a part is WikiText-2's, as it came or with its lines laid out as in the original file."""
    laid_out = "".join(f" {line} \n" if line else " \n" for line in lines).encode()
    return WIKITEXT_2_SHA1[part] in [
        hashlib.sha1(content, usedforsecurity=False).hexdigest() for content in (original, laid_out)
    ]


def from_local(path: Path) -> Text:
    """A text from a folder of train, valid and test, or from one file cut 80 : 10 : 10 by lines.

    Without train, the first 70% of valid's lines take its place. The label is WikiText-2's only
    where all three parts are. Raises TextError where files are missing, broken or too short.
    """
    name = path.resolve().name
    if not path.is_dir():
        return _enough(Text(f"local text ({name}), not WikiText-2", *_cut(_read(path)[0])))
    found = {part: _read(file) for part in PARTS if (file := _file_of(path, part))}
    parts = {part: lines for part, (lines, _) in found.items()}
    label = "WikiText-2" if "train" in parts else "WikiText-2 without its training split"
    if not all(_is_wikitext_2(part, *read) for part, read in found.items()):
        label = f"local text ({name}), not WikiText-2"
    if "train" not in parts:
        cut = len(parts["val"]) * 7 // 10
        parts |= {"train": parts["val"][:cut], "val": parts["val"][cut:]}
    return _enough(Text(label, **parts))


def _cut(sequence: tuple[str, ...] | list[list[str]]) -> list[tuple[str, ...] | list[list[str]]]:
    """Three pieces, 80 : 10 : 10, in order."""
    first, second = (len(sequence) * share // 10 for share in (8, 9))
    return [sequence[:first], sequence[first:second], sequence[second:]]


def _file_of(folder: Path, part: str) -> Path | None:
    found = [folder / name for name in FILE_NAMES[part] if (folder / name).is_file()]
    if len(found) > 1:
        both = " and ".join(file.name for file in found)
        raise TextError(f"{folder} has {both}, which are the same part of a text; one of them is allowed")
    if not found and part != "train":
        raise TextError(f"{folder} has no {part} part; one of {', '.join(FILE_NAMES[part])} is needed")
    return found[0] if found else None


def _read(path: Path) -> tuple[tuple[str, ...], bytes]:
    """The lines of a UTF-8 text file, and its bytes."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror}); give a readable text file") from error
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 at byte offset {error.start}; only UTF-8 text is allowed") from error
    # What follows the last line's end is no line.
    return _lines(lines if lines[-1] else lines[:-1]), content


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
    label = "Wikipedia excerpt shipped with gensim, not WikiText-2"
    return _enough(Text(label, *(tuple(itertools.chain.from_iterable(piece)) for piece in _cut(articles))))


def _article(plain: str) -> list[str]:
    """The paragraphs of an article; none where it only points to another one."""
    if plain.lstrip().lower().startswith("#redirect"):
        return []
    # Marks of lists at a line's start, and of bold and italics, are no text.
    bare = (re.sub(r"''+", " ", line.strip().lstrip("*#:;")) for line in plain.split("\n"))
    return [" ".join(words) for line in bare if (words := re.findall(r"\w+|[^\w\s]", line))]
