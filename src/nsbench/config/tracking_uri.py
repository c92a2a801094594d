"""Which MLflow store is meant, and its URI without what is secret in it. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

VARIABLE = "NSBENCH_TRACKING_URI"
HIDDEN = "***"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
STORES = ("http", "https", *DATABASES, "databricks")
ALLOWED = "http://HOST:PORT, https://..., sqlite:///FILE, postgresql://..., mysql://..., mssql://... or databricks"
ELSEWHERE = (
    f"give it without, and in the environment set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, "
    f"PGPASSWORD for PostgreSQL, or {VARIABLE} to the whole URI"
)
HARMLESS = ("host", "port", "dbname", "database", "user", "charset", "sslmode", "mode", "cache", "driver")
"""Keys of a database's query whose values are shown; that of any other may be a password by any name."""
_URI = re.compile(r"[A-Za-z][\w+.-]*://[^'\"<>\n]+|[^\s'\"<>:/@]*(?::|//)[^\s'\"<>]+@")
"""In a text: a URI, or what stands before the host in something that was meant to be one."""
_SCHEME = re.compile(r"([a-z]+)(?:\+[\w.-]+)?://|(databricks)[:/]+", re.I)
_IS_FILE_URI = re.compile(r"///file:|[?&]uri=(?!false\b|0\b)|\?[^?]*/", re.I)
_NO_HOST = re.compile(r"[^][\s/?#:@]*:(?!\d*(?:[/?#]|\Z))[^\s@]+")
"""A name and a password, where the host was forgotten."""


def resolve(config_uri: str | None, environ: Mapping[str, str], default: str) -> str:
    """The store's URI: that of the environment, else that of config, else the default. It may hold a password.

    Its scheme is in lower case, the only one that the libraries know.
    """
    uri = environ.get(VARIABLE, "").strip() or config_uri or default
    return re.sub(r"\A[\w+.-]+(?=://|\Z)", lambda scheme: scheme[0].lower(), uri)


def flaw(uri: str) -> str:
    """Why a URI cannot be that of a store, as a clause that names it; empty where it can."""
    scheme, separator, rest = uri.partition(":")
    kind = scheme.partition("+")[0].lower()
    bare = kind == "databricks" and not separator
    if kind not in STORES or not (bare or rest.startswith("//")) or not uri.isprintable():
        return f"{brief(uri)} is not allowed; allowed: {ALLOWED}"
    if kind == "sqlite" and _IS_FILE_URI.search(uri):
        # MLflow would make folders of that name in the working directory.
        return f"{brief(uri)} names its file by a URI of its own; give its path: sqlite:////folder/mlflow.db"
    if kind == "sqlite" and sqlite_path(uri) is None:
        return f"{brief(uri)} is a store in memory, gone when it is filled; allowed: {ALLOWED}"
    return ""


def sqlite_path(uri: str) -> str | None:
    """The file of a SQLite store; None for other stores and for one in memory."""
    match = re.fullmatch(r"(?i:sqlite)(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri, re.DOTALL)
    return None if match is None or match[1] == ":memory:" or "mode=memory" in uri else match[1]


def has_secret(uri: str) -> bool:
    """Whether there is something in a URI that must not be shown."""
    return shown(uri) != uri


def shown(uri: str) -> str:
    """A URI with `***` for a password or token, and for what its query may hide."""
    return "".join(HIDDEN if secret else text for text, secret in _parts(uri))


def brief(uri: str) -> str:
    """What a message has of a URI: as `shown`, quoted, its end cut off where it is long."""
    text = repr(shown(uri))
    return text if len(text) <= 120 else text[:117] + "..."


def secrets(uri: str) -> list[str]:
    """What `shown` hides, in the forms and pieces that a library's message may have; longest first."""
    forms = {form for text, secret in _parts(uri) if secret for form in (text, unquote(text))}
    # A driver that finds an unescaped '@', '/' or ':' in a password takes what follows it for a host.
    pieces = {piece for form in forms for piece in re.split(r"[@/:?#]", form) if len(piece) > 2}
    return sorted(forms | pieces, key=len, reverse=True)


def without_secrets(text: str, *known: str) -> str:
    """A text for others to read: its URIs as `shown` has them, and `***` for each of the `known` secrets."""
    for secret in sorted(filter(None, known), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URI.sub(lambda match: shown(match[0]), text)


def _parts(uri: str) -> list[tuple[str, bool]]:
    """The pieces of a URI, each with whether it may be secret: in doubt it is.

    A password counts to the last `@`, since people forget to escape one. Where no kind of store is known, all before
    that is secret.
    """
    match = _SCHEME.match(uri)
    kind = (match[1] or match[2]).lower() if match else ""
    scheme, rest = (match[0], uri[match.end() :]) if match and kind in STORES else ("", uri)
    if kind == "databricks":
        return [(scheme, False), (rest, not re.fullmatch(r"[\w.-]*", rest, re.ASCII))]
    user, at, place = rest.rpartition("@")
    if kind == "sqlite" and rest.startswith("/"):
        user, at, place = "", "", rest
    elif scheme and not at and _NO_HOST.fullmatch(rest):
        user, place = rest, ""
    name, colon, password = user.partition(":")
    if scheme and not re.search("[/?#@]", name) and (password or kind in DATABASES):
        parts = [(scheme + name + colon, False), (password, True)]
    elif "?" in user:
        return [(scheme, False), (rest, True)]
    else:
        parts = [(scheme, False), (user, True)]
    # In a database's URI '#' is a character as others are: of a file's name, say.
    place, hash_sign, fragment = (place, "", "") if kind in DATABASES else place.partition("#")
    place, question_mark, query = place.partition("?")
    parts.append((at + place + question_mark, False))
    for entry in re.split("([&;])", query):
        key, equals, value = entry.partition("=")
        is_plain = entry in "&;" or (kind in DATABASES and key.lower() in HARMLESS)
        parts += [(key + equals, not (is_plain or equals)), (value, not is_plain)]
    parts += [(hash_sign, False), (fragment, True)]
    return [(text, secret) for text, secret in parts if text]
