"""Which store is meant, and that no password in its URI is ever shown."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nsbench.config.base import ConfigError, parse
from nsbench.config.sections import Tracking
from nsbench.config.tracking_uri import ALLOWED, VARIABLE, flaw, has_secret, resolve, secrets, shown, without_secrets
from nsbench.workflow.grid import load
from tests.tracked_results import PROJECT

SHOWN = {
    "sqlite:///results/mlflow.db": "sqlite:///results/mlflow.db",
    "sqlite:////home/a@b/c#d/x.db?mode=rw": "sqlite:////home/a@b/c#d/x.db?mode=rw",
    "http://127.0.0.1:5000/sub": "http://127.0.0.1:5000/sub",
    "http://[::1]:5000/sub": "http://[::1]:5000/sub",
    "http://alice:pass@host:5000": "http://alice:***@host:5000",
    "http://alice:pa/ss@host": "http://alice:***@host",
    "http://alice:p@ss@[::1]": "http://alice:***@[::1]",
    "https://token@host/x": "https://***@host/x",
    "https://host/x?access=token#pass": "https://host/x?access=***#***",
    "postgresql://alice@host/runs": "postgresql://alice@host/runs",
    "postgresql://alice:p@s/s#wrd@host/runs": "postgresql://alice:***@host/runs",
    "postgresql:///runs?host=/run/pg&user=a&password=pass": "postgresql:///runs?host=/run/pg&user=a&password=***",
    "mssql+pyodbc:///?odbc_connect=UID%3Da%3BPWD%3Dpass": "mssql+pyodbc:///?odbc_connect=***",
    "databricks://my-team_2.b": "databricks://my-team_2.b",
}
ODD = {
    "http:/u:SECRET@h": "***@h",
    "htp://u:SECRET@h?a=SECRET": "***@h?a=***",
    "u:SECRET@host": "***@host",
    "SECRET@host#SECRET": "***@host#***",
    "HTTPS://SECRET@host": "HTTPS://***@host",
    "PostgreSQL://u:SECRET@h/d?port=1": "PostgreSQL://u:***@h/d?port=1",
    "postgresql://u:p?SECRET@h/d": "postgresql://u:***@h/d",
    "postgresql:///d?password=SECRET@SECRET": "postgresql://***",
    "http://SECRET:@h": "http://***@h",
    "http:///u:SECRET@h": "http://***@h",
    "http://u:SECRET": "http://u:***",
    "postgresql://u:SECRET/runs": "postgresql://u:***",
    "postgresql://u@server:SECRET@h/runs": "postgresql://***@h/runs",
    "databricks://profile:SECRET": "databricks://***",
    "Databricks:profile:SECRET": "Databricks:***",
}
"""Typos and odd forms, whether a store can be meant or not."""
SHOWN |= ODD
STORES = [uri for uri in SHOWN if uri not in ODD]


@pytest.mark.parametrize(("uri", "seen"), SHOWN.items())
def test_what_is_shown(uri: str, seen: str) -> None:
    assert shown(uri) == seen == shown(seen)
    assert has_secret(uri) == (uri != seen)


@given(
    st.sampled_from(["http", "https", "postgresql", "mysql+pymysql", "mssql+pyodbc"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30),
    st.sampled_from(["/runs", "", ":5000/a?sslmode=require"]),
    st.booleans(),
)
def test_no_password_is_shown_escaped_or_not(scheme: str, password: str, place: str, escaped: bool) -> None:
    marked = f"<{password}>"
    given = quote(marked, safe="") if escaped else marked
    uri = f"{scheme}://alice:{given}@host{place}"
    told = without_secrets(f'could not log in with "{marked}" or {given} ({uri})', *secrets(uri))
    for text in (shown(uri), told):
        assert marked not in text
        assert given not in text


@pytest.mark.parametrize("uri", ODD)
def test_no_secret_of_an_odd_form_is_told(uri: str) -> None:
    with pytest.raises(ConfigError, match="has a password or token in it") as caught:
        parse(Tracking, {"uri": uri})
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in flaw(uri)
    if not flaw(uri):
        assert "SECRET" not in without_secrets("could not log in with SECRET", *secrets(uri))


def test_a_password_is_hidden_in_the_pieces_that_a_driver_makes_of_it() -> None:
    uri = "postgresql://alice:pa@ssword@host/runs"
    reason = 'could not translate host name "ssword@host" to address'
    assert "ssword" not in without_secrets(reason, *secrets(uri))


def test_the_environment_wins_over_config_and_that_over_the_default() -> None:
    assert resolve(None, {}, "sqlite:///x.db") == "sqlite:///x.db"
    assert resolve("http://a", {}, "sqlite:///x.db") == "http://a"
    assert resolve("http://a", {VARIABLE: " "}, "sqlite:///x.db") == "http://a"
    assert resolve("http://a", {VARIABLE: "http://u:p@b\n"}, "sqlite:///x.db") == "http://u:p@b"


@pytest.mark.parametrize(
    ("uri", "resolved"),
    [("HTTP://Host/X", "http://Host/X"), ("SQLite:///A.db", "sqlite:///A.db"), ("Databricks", "databricks")],
)
def test_a_scheme_may_be_in_capitals(uri: str, resolved: str) -> None:
    assert flaw(uri) == flaw(resolved) == ""
    assert resolve(uri, {}, "") == resolved


def test_stores_are_allowed() -> None:
    assert [flaw(uri) for uri in [*STORES, "databricks", "mysql://h/d", "sqlite:///a b.db"] if flaw(uri)] == []


@pytest.mark.parametrize(
    "uri", ["file:/x/m.db?uri=true", "file:m.db", "m.db?uri=true", "FILE:///x/m.db", "m.db?vfs=a/b", "file::memory:"]
)
def test_a_file_that_is_named_by_a_uri_is_refused_as_mlflow_would_make_folders_of_that_name(uri: str) -> None:
    assert flaw(f"sqlite:///{uri}").endswith(
        "names its file by a URI of its own; give its path: sqlite:////folder/mlflow.db"
    )
    with pytest.raises(ConfigError, match="tracking: uri"):
        parse(Tracking, {"uri": f"sqlite:///{uri}"}, "tracking")


@pytest.mark.parametrize(
    "uri",
    ["", "mlruns", "file:///x", "http:/h", "sqlite:x.db", "sqlite:///:memory:", "ht\0"],
)
def test_what_is_no_store_is_refused_before_anything_runs(uri: str) -> None:
    assert ALLOWED in flaw(uri)
    with pytest.raises(ConfigError, match="tracking: uri") as caught:
        parse(Tracking, {"uri": uri}, "tracking")
    assert str(caught.value).endswith(ALLOWED)


@pytest.mark.parametrize(
    "uri",
    ["http://alice:pass@host:5000", "https://host/x?access=token#pass", "postgresql://alice:p@s/s#wrd@host/runs"],
)
def test_config_refuses_a_password_without_printing_it(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking: uri '.*\*\*\*.*' has a password or token in it") as caught:
        load({**yaml.safe_load((PROJECT / "config.yaml").read_text()), "tracking": {"uri": uri}})
    assert f"{VARIABLE} to the whole URI" in str(caught.value)
    told = str(caught.value).partition(" has a password or token in it")[0]
    assert not [secret for secret in ("pass", "token", "p@s") if secret in told]


SECRET = "postgresql://alice:S3cret@host/" + "runs" * 30


@pytest.mark.parametrize(
    "section",
    [
        SECRET,
        [SECRET],
        {SECRET: None},
        {"uri": [SECRET]},
        {"uri": {"is": SECRET}},
        {"uri": SECRET, "urll": 1},
        {"uri": "http://" + "x" * 60 + ":S3cret@host"},
    ],
)
def test_no_other_complaint_about_tracking_prints_the_password(section: Any) -> None:
    with pytest.raises(ConfigError, match="tracking") as caught:
        parse(Tracking, section, "tracking")
    assert "S3cret" not in str(caught.value)
    assert len(str(caught.value)) < 600
