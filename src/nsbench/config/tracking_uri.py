"""Which MLflow store is meant, and its URI without what is secret in it. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping

VARIABLE = "NSBENCH_TRACKING_URI"
HIDDEN = "***"
WEB = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
STORES = (*WEB, *DATABASES, "databricks")
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
"""Keys of a database's query whose values are shown; that of any other may be a password by any name."""
_URI = re.compile(r"[A-Za-z][\w+.-]*://[^'\"<>\n]+|[^\s'\"<>:/@]*(?::|//)[^\s'\"<>]+@")
"""In a text: a URI, or what stands before the host in something that was meant to be one."""
_SCHEME = re.compile(r"([a-z]+)(?:\+[\w.-]+)?://|(databricks)[:/]+", re.I)
_PROFILE = re.compile(r"[\w.-]*", re.ASCII)
_PLACE = re.compile(r"(?:\[[^]\s/?#@]*\]|[^][/?#@:]+)(?::\d*)?(?=[/?#]|\Z)")
"""A host, with its port if any, and nothing before it."""
_NO_HOST = re.compile(r"[^][\s/?#:@]*:[^\s@]+")
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
    if kind == "sqlite" and sqlite_path(uri) is None:
        return f"{brief(uri)} is a store in memory, gone when it is filled; allowed: {ALLOWED}"
    return ""


def sqlite_path(uri: str) -> str | None:
    """The file of a SQLite store; None for other stores and for one in memory."""
    match = re.fullmatch(r"(?i:sqlite)(?:\+\w+)?:///(?:file:)?([^?]+)(?:\?.*)?", uri, re.DOTALL)
    return None if match is None or match[1] == ":memory:" or "mode=memory" in uri else match[1]


def has_secret(uri: str) -> bool:
    """Whether there is something in a URI that must not be shown."""
    return shown(uri) != uri


def shown(uri: str) -> str:
    """A URI with `***` for its password, for a token before `@`, and for what its query may hide.

    Where characters of a password are not escaped as they should be, more is hidden rather than less; where the scheme
    is none that is known, all before the last `@` is.
    """
    kind, scheme, rest = _split(uri)
    if kind == "databricks":
        return uri if _PROFILE.fullmatch(rest) else scheme + HIDDEN
    secret = _user_part(kind, rest)
    rest = rest[len(secret) :]
    # In a database's URI '#' is a character as others are: of a file's name, say.
    rest, hash_sign, fragment = (rest, "", "") if kind in DATABASES else rest.partition("#")
    rest, question_mark, query = rest.partition("?")
    harmless = HARMLESS if kind in DATABASES else frozenset()
    return "".join(
        [
            scheme,
            _without_password(kind, secret),
            rest,
            question_mark + "&".join(_without_value(part, harmless) for part in re.split("[&;]", query)),
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

    kind, _, rest = _split(uri)
    if kind == "databricks":
        password = "" if _PROFILE.fullmatch(rest) else rest
    else:
        user = _user_part(kind, rest).removesuffix("@")
        password = user if _hides_name(kind, user) else user.partition(":")[2]
    values = re.findall(r"=([^&;#]+)", rest) if has_secret(uri) else []
    # Of several '@' each may be the one before the host.
    ends = [at.start() for at in re.finditer("@", password)]
    whole = [password, *(password[:end] for end in ends), *(value for value in values if value not in shown(uri))]
    forms = {form for value in whole for form in (value, unquote(value)) if form}
    # A driver that finds an unescaped '@', '/' or ':' in a password takes what follows it for a host.
    pieces = {piece for form in forms for piece in re.split(r"[@/:?#]", form) if len(piece) > 2}
    return sorted(forms | pieces, key=len, reverse=True)


def without_secrets(text: str, *known: str) -> str:
    """A text for others to read: its URIs as `shown` has them, and `***` for each of the `known` secrets."""
    for secret in sorted(filter(None, known), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URI.sub(lambda match: shown(match[0]), text)


def _split(uri: str) -> tuple[str, str, str]:
    """The kind of store, the scheme as it was written, with `://`, and the rest; all is rest where no kind is known."""
    match = _SCHEME.match(uri)
    kind = (match[1] or match[2]).lower() if match else ""
    return (kind, match[0], uri[match.end() :]) if match and kind in STORES else ("", "", uri)


def _user_part(kind: str, rest: str) -> str:
    """What stands before the host, with its `@`: as the libraries that open such a URI read it, or more."""
    to_last = rest[: rest.rfind("@") + 1]
    if not kind:
        return to_last
    place = _PLACE.match(rest)
    if (kind == "sqlite" and rest.startswith("/")) or (place and (kind in WEB or rest.startswith("["))):
        return ""
    if not to_last:
        return rest if not place and _NO_HOST.fullmatch(rest) else ""
    name = re.match(r"[^/?#:@]*@(?=\[)", rest)
    if kind in DATABASES and name and _PLACE.match(rest, name.end()):
        return name[0]
    if kind in WEB or re.match(r"[^/?#:]*:.*@", rest, re.DOTALL):
        return to_last
    name = re.match(r"[^/?#:]*@", rest)
    # Without a name, '@' or ':' in a path is of no database's name but of an account in the wrong place.
    return name[0] if name else to_last if re.search("[@:]", rest.partition("?")[0]) else ""


def _hides_name(kind: str, user: str) -> bool:
    """Whether the name may be as secret as the password: a token, a piece of a password, or who knows what."""
    name, _, password = user.partition(":")
    return not kind or bool(re.search("[/?#]", name)) or (kind in WEB and (not password or "@" in name))


def _without_password(kind: str, user_part: str) -> str:
    user = user_part.removesuffix("@")
    at = user_part[len(user) :]
    name, colon, password = user.partition(":")
    if user in ("", ":"):
        return user_part
    if _hides_name(kind, user):
        return HIDDEN + at
    return f"{name}:{HIDDEN}{at}" if colon and password else user_part


def _without_value(part: str, harmless: frozenset[str]) -> str:
    name, equals, value = part.partition("=")
    if not part or (equals and (not value or name.lower() in harmless)):
        return part
    return f"{name}={HIDDEN}" if equals else HIDDEN
