"""claims.yaml: the claims of the papers, and the rules that make a verdict of a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from nsbench.claims.conditions import ALWAYS, check, names_in
from nsbench.claims.registry import QUANTITIES, Parameters, Quantity
from nsbench.config.base import Closed, ConfigError, Name, Real, known, no_duplicates, parse
from nsbench.config.loader import read
from nsbench.schemas.claims import GROUPS, IN_ERROR, RULED, SEVERITIES, SOURCES

Words = Field(min_length=1)


class QuantityChoice(Closed):
    """The number of ours that answers a claim."""

    name: str
    """A name of `nsbench.claims.registry.QUANTITIES`."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """What it is asked for, as the quantity's own model says."""


class Entry(Closed):
    """One claim as claims.yaml has it."""

    id: Name
    """Its name, once in the file."""
    source: Literal[tuple(SOURCES)] = "haris2026"
    """The paper that it is of."""
    place: str = Words
    """Where the paper says it."""
    group: Literal[GROUPS]
    """What it is about."""
    claim: str = Words
    """What the paper says, in words of ours."""
    paper: Real | None = None
    """The paper's number, `paper` in conditions; null where it gives none."""
    paper_text: str = Words
    """That number or those words as one would show them."""
    unit: str = "1"
    """Unit of the paper's number and of ours; where it names a direction, as `% fewer steps` does, negative numbers are
    shown by the opposite word (`nsbench.config.wording`)."""
    quantity: QuantityChoice
    """What of ours answers it."""
    rule: str | dict[str, str]
    """A name of `rules`, or verdict -> condition, the first that holds counts; none: undecided."""
    severity: Literal[tuple(SEVERITIES)] | None = None
    """How grave it is if the paper is in error; for rules that can say so."""
    erratum: int | None = Field(default=None, ge=1)
    """The entry of docs/errata.md that is the cause. Claims that share one are one error."""
    figure: str = ""
    """Stem of the figure that shows it, or empty."""
    note: str = ""
    """What to know before reading the verdict."""


class ClaimsFile(Closed):
    """claims.yaml as a whole."""

    rules: dict[Name, dict[str, str]] = Field(default_factory=dict)
    """Rules that several claims share: name -> verdict -> condition."""
    claims: list[Entry] = Field(min_length=1)
    """The claims, in the order in which they are shown."""


class Claim(NamedTuple):
    """A claim with all that is needed to judge it."""

    entry: Entry
    quantity: Quantity
    parameters: Parameters
    conditions: dict[str, str]
    """Verdict -> condition, in order."""

    @property
    def rule_text(self) -> str:
        """The rule in words and conditions; a shared one with its name."""
        name = f"{self.entry.rule}: " if isinstance(self.entry.rule, str) else ""
        return name + "; ".join(f"{verdict} if {condition}" for verdict, condition in self.conditions.items())


def load_claims(path: Path | str) -> list[Claim]:
    """The claims of a file, in its order, each one checked whole.

    Raises ConfigError, one sentence that names the file and the claim: no YAML, an unknown key, an id that is there
    twice, an unknown quantity, parameter, rule, verdict or name in a condition.
    """
    if not Path(path).exists():
        raise ConfigError(f"{path}: no such file; claims.yaml of the repository is meant")
    file = _parse(ClaimsFile, read(Path(path)), f"{path}")
    no_duplicates([entry.id for entry in file.claims], f"{path}: claims.id")
    return [_claim(entry, file.rules, f"{path}: {entry.id}") for entry in file.claims]


def _claim(entry: Entry, rules: dict[str, dict[str, str]], where: str) -> Claim:
    name, rule = entry.quantity.name, entry.rule
    quantity = QUANTITIES.find(name, where)
    if isinstance(rule, str):
        known(rule, rules, where, "rule")
        rule = rules[rule]
    if not rule:
        raise ConfigError(f"{where}: rule: no condition; at least one verdict with its condition is allowed")
    for verdict, condition in rule.items():
        known(verdict, RULED, f"{where}: rule", "verdict")
        check(condition, [*ALWAYS, *quantity.extras], f"{where}: rule, {verdict}")
        if entry.paper is None and "paper" in names_in(condition):
            raise ConfigError(f"{where}: rule, {verdict}: {condition!r} needs `paper`, which is null")
    if (IN_ERROR in rule) != (entry.severity is not None):
        raise ConfigError(f"{where}: severity: a rule with the verdict '{IN_ERROR}' needs one, no other may have it")

    return Claim(entry, quantity, _parse(quantity.parameters, entry.quantity.parameters, f"{where}: {name}"), rule)


def _parse(model: type[Closed], values: Any, where: str) -> Any:
    """`parse`, its sentence with the place before it."""
    try:
        return parse(model, values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
