"""From findings to verdicts: one setting by the claim's rule, and one verdict for a claim from all its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.pvalues import holm
from nsbench.claims.conditions import holds, names_in
from nsbench.claims.definitions import Claim
from nsbench.claims.evidence import ASIDE, COMMANDS, COUNTS, MISSING, STAND_IN, Evidence, Finding, Missing
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE, SCALES

ON_THE_PAPERS_SIDE = ("reproduced", "partly")


class Judged(NamedTuple):
    """A finding with its verdict and why."""

    finding: Finding
    verdict: str
    reason: str


def judge(claim: Claim, evidence: Evidence) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of CLAIM for a claim, and its rows of CLAIM_EVIDENCE."""
    quantity = claim.quantity
    try:
        found = [judge_one(claim, finding) for finding in quantity.measure(evidence, claim.parameters)]
        verdict, reason = combine(found, COMMANDS.get(quantity.source, ""), quantity.all_needed)
    except Missing as missing:
        found, verdict, reason = [], "not run", _sentence(str(missing))
    row, rows = _row(claim, evidence, found, verdict, reason), [_evidence(claim, one) for one in found]
    if row["partial"]:
        # What is not in it may well be in the whole grid.
        for one in (row, *rows):
            one["reason"] = one["reason"].replace("the grid", "the finished part of the grid")
    return row, rows


def judge_one(claim: Claim, finding: Finding) -> Judged:
    """A setting's verdict: the first of the rule's conditions that holds; none: undecided."""
    if finding.status == MISSING:
        return Judged(finding, "not run", _sentence(finding.why))
    if finding.status == ASIDE:
        return Judged(finding, "undecided", _sentence(f"does not count: {finding.why}"))
    values = {"value": finding.value, "low": finding.low, "high": finding.high, "n": finding.n}
    values |= {"paper": claim.entry.paper, **finding.extras}
    number = show_ours(finding.value, finding.low, finding.high, claim.entry.unit)
    for verdict, condition in claim.conditions.items():
        if holds(condition, values):
            said = (math.isnan(finding.value) and finding.note) or number
            return Judged(finding, verdict, _sentence(f"{said}: {condition}{_used(names_in(condition, ''), values)}"))
    names = names_in(" and ".join(claim.conditions.values()), "")
    unknown = [_word(name) for name in names if values.get(name) is None or math.isnan(values[name])]
    because = f"; no {', no '.join(unknown)}" if unknown else _used(names, values)
    note = f" ({finding.note})" if finding.note else ""
    return Judged(finding, "undecided", _sentence(f"{number}: no condition of the rule holds{because}{note}"))


def combine(found: list[Judged], command: str = "", all_needed: bool = False) -> tuple[str, str]:
    """One verdict and its reason from those of the settings; only the settings that count have a say.

    All alike: that verdict. Else partly, where one is reproduced or partly; else undecided, where one is; else the
    settings contradict each other in what they refuse, and the first one's verdict stands. None counts: not run where
    nothing was run of what the claim is about, undecided where it was run and does not count. `command` makes what is
    missing.

    Where a setting on the paper's side stands beside one that is not, one of the former must keep a small p-value
    after Holm's correction over the settings that count, if they have p-values: else undecided. `all_needed`: without
    one of the settings, because it is missing or does not count, reproduced becomes partly.
    """
    verdict, reason = _of_counted(found, command)
    absent = [one for one in found if one.finding.status in ((MISSING, ASIDE) if all_needed else (MISSING,))]
    if not absent or not any(one.finding.status == COUNTS for one in found):
        return verdict, reason
    without = f"without {_reasons(absent)}"
    if all_needed and verdict == "reproduced":
        return "partly", _sentence(f"reproduced {without}; {reason}")
    return verdict, _sentence(f"{reason.removesuffix('.')}; {without}")


def _of_counted(found: list[Judged], command: str) -> tuple[str, str]:
    """The verdict and its reason of the settings that count."""
    counted = [one for one in found if one.finding.status == COUNTS]
    if not counted:
        aside = [one for one in found if one.finding.status == ASIDE]
        if aside:
            return "undecided", _sentence(f"no setting counts: {_reasons(aside)}")
        left = [one for one in found if one.finding.status == MISSING]
        stand_ins = [one for one in found if one.finding.status == STAND_IN]
        reason = _reasons(left) if left else "nothing was run that the claim is about"
        if stand_ins:
            reason += f"; in their place, which is no evidence about them: {_tally(stand_ins)}"
        return "not run", _sentence(f"{reason}; to make it: {command}" if command else reason)
    verdicts = list(dict.fromkeys(one.verdict for one in counted))
    if len(verdicts) == 1:
        if len(counted) == 1:
            return verdicts[0], counted[0].reason
        return verdicts[0], _sentence(
            f"in all {len(counted)} settings that count; {counted[0].finding.setting}: {counted[0].reason}"
        )
    if not set(verdicts) & set(ON_THE_PAPERS_SIDE):
        verdict = "undecided" if "undecided" in verdicts else verdicts[0]
        return verdict, _sentence(f"the settings differ: {_tally(counted)}")
    by_chance = "" if set(verdicts) <= set(ON_THE_PAPERS_SIDE) else _may_be_chance(counted)
    return "undecided" if by_chance else "partly", _sentence(f"the settings differ: {_tally(counted)}{by_chance}")


def _may_be_chance(counted: list[Judged]) -> str:
    """Words for that no setting on the paper's side survives Holm's correction; empty: one does, or none has a test."""
    p_values = np.array([float(one.finding.extras.get("p_value", math.nan)) for one in counted])
    tested = [
        (p, 1 - one.finding.extras["confidence"])
        for one, p in zip(counted, holm(p_values), strict=True)
        if one.verdict in ON_THE_PAPERS_SIDE and not math.isnan(p)
    ]
    if not tested or any(p <= alpha for p, alpha in tested):
        return ""
    least, n = min(p for p, _ in tested), int(np.isfinite(p_values).sum())
    return f"; none on the paper's side is left by Holm's correction over {n} settings (p = {show_number(least)})"


def show_number(value: float) -> str:
    """A number with three digits, or a dash."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}".replace("-", "−")
    shown = f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"
    return shown.replace("-", "−")


def show_ours(value: float, low: float, high: float, unit: str) -> str:
    """A number with its unit and its interval, where it has one."""
    interval = (
        "" if math.isnan(low) or math.isnan(high) or low == high else f"{show_number(low)} to {show_number(high)}"
    )
    return show_number(value) + _unit(unit) + (f" ({interval})" if interval else "")


def _unit(unit: str) -> str:
    return {"1": "", "%": "%"}.get(unit, f" {unit}")


def _row(claim: Claim, evidence: Evidence, found: list[Judged], verdict: str, reason: str) -> dict[str, Any]:
    """The row of a claim; its number is the first counting setting's, whatever that says."""
    entry = claim.entry
    counted = [one.finding for one in found if one.finding.status == COUNTS]
    shown = counted[0] if counted else Finding("")
    notes = [
        entry.note,
        *(f"{one.setting}: {one.note}" if len(counted) > 1 else one.note for one in counted if one.note),
    ]
    row = {name: getattr(entry, name) for name in ("id", "place", "group", "claim", "paper_text", "unit", "figure")}
    row |= {"paper": math.nan if entry.paper is None else entry.paper, **_ours(shown)}
    row |= {"verdict": verdict, "reason": reason, "rule": claim.rule_text, "settings": _listed(found)}
    source = claim.quantity.source
    row["scale"] = evidence.scale if source else SCALES[-1]
    # Only training's numbers come from a part of the grid.
    row["partial"] = evidence.partial if source == "training" else ""
    row["text"] = "; ".join(dict.fromkeys(one.text for one in counted if one.text))
    row["note"] = "; ".join(dict.fromkeys(note for note in notes if note)).replace(".; ", "; ")
    return {name: row[name] for name in CLAIM.names}


def _evidence(claim: Claim, one: Judged) -> dict[str, Any]:
    row = {"id": claim.entry.id, "setting": one.finding.setting, **_ours(one.finding)}
    row |= {"verdict": one.verdict, "reason": one.reason, "note": one.finding.note}
    return {name: row[name] for name in CLAIM_EVIDENCE.names}


def _ours(finding: Finding) -> dict[str, Any]:
    numbers = {"ours": finding.value, "ours_low": finding.low, "ours_high": finding.high}
    return {**numbers, "n": finding.n, "n_unit": finding.n_unit}


def _listed(found: list[Judged]) -> str:
    return "; ".join(f"{one.finding.setting}: {_short(one)}" for one in found)


def _short(one: Judged) -> str:
    status = {ASIDE: "does not count", STAND_IN: f"{one.verdict} (stands in)"}
    return status.get(one.finding.status, one.verdict)


def _tally(counted: list[Judged]) -> str:
    by_verdict: dict[str, list[str]] = {}
    for one in counted:
        by_verdict.setdefault(one.verdict, []).append(one.finding.setting)
    return "; ".join(f"{verdict} in {len(names)} ({_some(names)})" for verdict, names in by_verdict.items())


def _some(names: list[str], most: int = 3) -> str:
    return " · ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _reasons(found: list[Judged]) -> str:
    """Why these settings have no say, settings with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for one in found:
        by_reason.setdefault(one.finding.why, []).append(one.finding.setting)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())


def _used(names: list[str], values: Mapping[str, Any]) -> str:
    """The numbers that conditions used and that are not said yet."""
    used = [name for name in names if name not in ("value", "low", "high")]
    said = ", ".join(f"{name} = {show_number(float(values[name]))}" for name in used if values.get(name) is not None)
    return f", with {said}" if said else ""


def _word(name: str) -> str:
    return {"low": "lower end", "high": "upper end"}.get(name, name.replace("_", " "))


def _sentence(text: str) -> str:
    """One line that ends with a full stop."""
    line = " ".join(str(text).split())
    return line if line.endswith(".") else f"{line}."


def frames(
    judged: list[tuple[dict[str, Any], list[dict[str, Any]]]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables CLAIM and CLAIM_EVIDENCE of judged claims."""
    claims = pd.DataFrame([row for row, _ in judged], columns=CLAIM.names)
    evidence = pd.DataFrame([row for _, rows in judged for row in rows], columns=CLAIM_EVIDENCE.names)
    for table in (claims, evidence):
        table["n"] = table["n"].astype(object).where(table["n"].notna(), None)
    return claims, evidence
