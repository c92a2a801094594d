"""Which MLflow store is meant, and its URI without what is secret in it. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping

VARIABLE = "NSBENCH_TRACKING_URI"
HIDDEN = "***"
WEB = ("http", "https")
STORES = (*WEB, "sqlite", "postgresql", "mysql", "mssql", "databricks")
ALLOWED = "http://HOST:PORT, https://..., sqlite:///FILE, postgresql://..., mysql://..., mssql://... or databricks"
ELSEWHERE = (
    f"give it without, and in the environment set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, "
    f"PGPASSWORD for PostgreSQL, or {VARIABLE} to the whole URI"
)
_TOLD = """
host hostaddr port dbname database user charset client_encoding application_name connect_timeout timeout read_timeout
write_timeout sslmode sslrootcert ssl_ca gssencmode channel_binding target_session_attrs unix_socket driver encrypt
trustservercertificate mode cache uri nolock immutable check_same_thread
"""
HARMLESS = frozenset(_TOLD.split())
"""Keys of a query whose values are shown; that of any other is hidden, for it may be a password by any name."""
_URI = re.compile(r"[A-Za-z][\w+.-]*://[^'\"<>\n]+")


def resolve(config_uri: str | None, environ: Mapping[str, str], default: str) -> str:
    """The store's URI: that of the environment, else that of config, else the default. It may hold a password."""
    return environ.get(VARIABLE, "").strip() or config_uri or default


def flaw(uri: str) -> str:
    """Why a URI cannot be that of a store, as a clause that names it; empty where it can."""
    scheme, separator, rest = uri.partition(":")
    kind = scheme.partition("+")[0]
    bare = kind == "databricks" and not separator
    if kind not in STORES or not (bare or rest.startswith("//")) or not uri.isprintable():
        return f"{brief(uri)} is not allowed; allowed: {ALLOWED}"
    if kind == "sqlite" and sqlite_path(uri) is None:
        return f"{brief(uri)} is a store in memory, gone when it is filled; allowed: {ALLOWED}"
    return ""


def sqlite_path(uri: str) -> str | None:
    """The file of a SQLite store; None for other stores and for one in memory."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///(?:file:)?([^?]+)(?:\?.*)?", uri, re.DOTALL)
    return None if match is None or match[1] == ":memory:" or "mode=memory" in uri else match[1]


def has_secret(uri: str) -> bool:
    """Whether there is something in a URI that must not be shown."""
    return shown(uri) != uri


def shown(uri: str) -> str:
    """A URI with `***` for its password, for a token before `@`, and for what its query may hide.

    Where characters of a password are not escaped as they should be, more is hidden rather than less.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "", uri
    secret = _user_part(scheme, rest)
    rest = rest[len(secret) :]
    # Elsewhere '#' is a character as others are: of a file's name, say.
    rest, hash_sign, fragment = rest.partition("#") if scheme in WEB else (rest, "", "")
    rest, question_mark, query = rest.partition("?")
    return "".join(
        [
            scheme + separator,
            _without_password(scheme, secret),
            rest,
            question_mark + "&".join(_without_value(part) for part in re.split("[&;]", query)),
            hash_sign + HIDDEN if fragment else hash_sign,
        ]
    )


def brief(uri: str) -> str:
    """What a message has of a URI: as `shown`, quoted, its end cut off where it is long."""
    text = repr(shown(uri))
    return text if len(text) <= 120 else text[:117] + "..."


def secrets(uri: str) -> list[str]:
    """What `shown` hides of who logs in, in the forms and pieces that a library's message may have; longest first."""
    from urllib.parse import unquote

    scheme, _, rest = uri.partition("://")
    name, colon, password = _user_part(scheme, rest).removesuffix("@").partition(":")
    if scheme in WEB and not colon:
        password = name
    values = re.findall(r"=([^&;#]+)", rest) if has_secret(uri) else []
    whole = [password, *(value for value in values if value not in shown(uri))]
    forms = {form for value in whole for form in (value, unquote(value)) if form}
    # A driver that finds an unescaped '@', '/' or ':' in a password takes what follows it for a host.
    pieces = {piece for form in forms for piece in re.split(r"[@/:?#]", form) if len(piece) > 2}
    return sorted(forms | pieces, key=len, reverse=True)


def without_secrets(text: str, *known: str) -> str:
    """A text for others to read: its URIs as `shown` has them, and `***` for each of the `known` secrets."""
    for secret in sorted(filter(None, known), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URI.sub(lambda match: shown(match[0]), text)


def _user_part(scheme: str, rest: str) -> str:
    """What stands before the host, with its `@`, as the libraries that open such a URI read it."""
    if rest.startswith("/"):
        return ""
    if scheme not in WEB:
        match = re.match(r"[^/?#:@]*(:.*)?@", rest, re.DOTALL)
        return match[0] if match else ""
    authority = re.match(r"[^/?#]*", rest)[0]
    user, at, _ = authority.rpartition("@")
    if not at and re.search(r":(?!\d*$)", authority):
        # Neither a host nor host:port: a password with '/', '?' or '#' in it.
        user, at, _ = rest.rpartition("@")
    return user + at


def _without_password(scheme: str, user_part: str) -> str:
    name, colon, password = user_part.removesuffix("@").partition(":")
    if colon:
        return f"{name}:{HIDDEN if password else ''}@"
    # A server's name without a password is a token.
    return f"{HIDDEN}@" if name and scheme in WEB else user_part


def _without_value(part: str) -> str:
    name, equals, value = part.partition("=")
    if not part or (equals and (not value or name.lower() in HARMLESS)):
        return part
    return f"{name}={HIDDEN}" if equals else HIDDEN
