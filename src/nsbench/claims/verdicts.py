"""From findings to verdicts: one setting by the claim's rule, and one verdict for a claim from all its settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nsbench.claims.conditions import holds, names_in
from nsbench.claims.definitions import Claim
from nsbench.claims.evidence import ASIDE, BESIDE, COMMANDS, COUNTS, MISSING, STAND_IN, Evidence, Finding, Missing
from nsbench.config import wording
from nsbench.config.settled import no_effect
from nsbench.schemas.claims import IN_ERROR, NO_EFFECT, SCALES

ON_THE_PAPERS_SIDE = ("reproduced", "in the paper's direction", "partly")


class Judged(NamedTuple):
    """A finding with its verdict and why (no full stop yet)."""

    finding: Finding
    verdict: str
    reason: str


def judge(claim: Claim, evidence: Evidence) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of CLAIM for a claim, and its rows of CLAIM_EVIDENCE."""
    quantity = claim.quantity
    try:
        found = [judge_one(claim, finding, evidence.margin) for finding in quantity.measure(evidence, claim.parameters)]
        verdict, reason = combine(found, COMMANDS.get(quantity.source, ""), quantity.all_needed)
    except Missing as missing:
        found, verdict, reason = [], "not run", str(missing)
    row = _row(claim, evidence, found) | {"verdict": verdict, "reason": _sentence(reason)}
    row["severity"] = (claim.entry.severity or "") if verdict == IN_ERROR else ""
    rows = [
        {"id": claim.entry.id, "setting": one.finding.setting, **_ours(one.finding)}
        | {"verdict": one.verdict, "reason": _sentence(one.reason), "note": one.finding.note}
        | {"task": one.finding.task, "variant": one.finding.variant}
        for one in found
    ]
    if row["partial"]:
        # What is not in it may well be in the whole grid.
        for one in (row, *rows):
            one["reason"] = one["reason"].replace("the grid", "the finished part of the grid")
    return row, rows


def kind_of(verdict: str) -> str:
    """The one of VERDICTS that a verdict is, its margin left out."""
    return NO_EFFECT if verdict.startswith(NO_EFFECT) else verdict


def judge_one(claim: Claim, finding: Finding, margin: float) -> Judged:
    """A setting's verdict: the first of the rule's conditions that holds; none: undecided. margin: of no effect."""
    if finding.status == MISSING:
        return Judged(finding, "not run", finding.why)
    if finding.status == ASIDE:
        return Judged(finding, "undecided", f"does not count: {finding.why}")
    values = {"value": finding.value, "low": finding.low, "high": finding.high, "n": finding.n}
    values |= {"paper": claim.entry.paper, **finding.extras}
    number = wording.told(finding.value, finding.low, finding.high, claim.entry.unit)
    # An effect in words has no sign, which conditions go by: the numbers stand behind them.
    shown_before = () if wording.direction(claim.entry.unit) else ("value", "low", "high")
    for verdict, condition in claim.conditions.items():
        if holds(condition, values):
            shown = (math.isnan(finding.value) and finding.note) or number
            verdict = no_effect(margin) if verdict == NO_EFFECT else verdict
            return Judged(finding, verdict, f"{shown}: {condition}{_used(names_in(condition), values, shown_before)}")
    names = names_in(" and ".join(claim.conditions.values()))
    words = {"low": "lower end", "high": "upper end"}
    unknown = [
        f"no {words.get(name, name.replace('_', ' '))}"
        for name in names
        if values.get(name) is None or math.isnan(values[name])
    ]
    because = f"; {', '.join(unknown)}" if unknown else _used(names, values, shown_before)
    return Judged(finding, "undecided", f"{number}: no condition of the rule holds{because}")


def combine(found: list[Judged], command: str = "", all_needed: bool = False) -> tuple[str, str]:
    """One verdict and its reason from those of the settings; only the settings that count have a say.

    All alike: that verdict. Else partly, where one is on the paper's side; else undecided, where one is; else the
    settings contradict each other in what they refuse, and the first one's verdict stands. None counts: not run where
    nothing was run of what the claim is about, undecided where it was run and does not count. `command` makes what is
    missing. `all_needed`: the claim is of all its settings, so that one which refuses it refuses all; without one of
    them, because it is missing or does not count, a verdict on the paper's side becomes partly.
    """
    verdict, reason = _of_counted(found, command)
    if all_needed and verdict == "partly" and any(_refuses(one) for one in found if one.finding.status == COUNTS):
        verdict = "not reproduced"
    absent = [one for one in found if one.finding.status in ((MISSING, ASIDE) if all_needed else (MISSING,))]
    if not absent or not any(one.finding.status == COUNTS for one in found):
        return verdict, reason
    without = f"without {_reasons(absent)}"
    if all_needed and verdict in ON_THE_PAPERS_SIDE:
        return "partly", f"{verdict} {without}; {reason}"
    return verdict, f"{reason}; {without}"


def _refuses(one: Judged) -> bool:
    """Whether a setting's verdict is against the claim."""
    return kind_of(one.verdict) in (NO_EFFECT, "not reproduced", "opposite")


def _of_counted(found: list[Judged], command: str) -> tuple[str, str]:
    """The verdict and its reason of the settings that count."""

    def of_status(status: str) -> list[Judged]:
        return [one for one in found if one.finding.status == status]

    counted = of_status(COUNTS)
    if not counted:
        if aside := of_status(ASIDE):
            return "undecided", f"no setting counts: {_reasons(aside)}"
        reason = _reasons(of_status(MISSING)) or "nothing was run that the claim is about"
        if stand_ins := of_status(STAND_IN):
            reason += f"; in their place, which is no evidence about them: {_tally(stand_ins)}"
        return "not run", f"{reason}; to make it: {command}" if command else reason
    verdicts = list(dict.fromkeys(one.verdict for one in counted))
    if len(verdicts) == 1:
        first = counted[0]
        alike = f"in all {len(counted)} settings that count; {first.finding.setting}: " if len(counted) > 1 else ""
        return first.verdict, alike + first.reason
    differ = f"the settings differ: {_tally(counted)}"
    if not set(verdicts) & set(ON_THE_PAPERS_SIDE):
        return "undecided" if "undecided" in verdicts else verdicts[0], differ
    return "partly", differ


def _row(claim: Claim, evidence: Evidence, found: list[Judged]) -> dict[str, Any]:
    """The row of a claim without its verdict; its number is the first counting setting's, whatever that says."""
    entry, source = claim.entry, claim.quantity.source
    counted = [one.finding for one in found if one.finding.status == COUNTS]
    notes = [f"{one.setting}: {one.note}" if len(counted) > 1 else one.note for one in counted if one.note]
    status = {ASIDE: "does not count", BESIDE: "{} (beside)", STAND_IN: "{} (stands in)"}
    settings = [f"{one.finding.setting}: {status.get(one.finding.status, '{}').format(one.verdict)}" for one in found]
    names = ("id", "source", "place", "group", "claim", "paper_text", "unit", "erratum", "figure")
    return {
        **{name: getattr(entry, name) for name in names},
        **_ours(counted[0] if counted else Finding("")),
        "paper": math.nan if entry.paper is None else entry.paper,
        "n_settings": len(counted),
        "rule": claim.rule_text,
        "settings": "; ".join(settings),
        "scale": evidence.scale if source else SCALES[-1],
        # Only training's numbers come from a part of the grid.
        "partial": evidence.partial if source == "training" else "",
        "text": _once(one.text for one in counted),
        "note": _once([entry.note, *notes]).replace(".; ", "; "),
    }


def _ours(finding: Finding) -> dict[str, Any]:
    numbers = {"ours": finding.value, "ours_low": finding.low, "ours_high": finding.high}
    return {**numbers, "n": finding.n, "n_unit": finding.n_unit}


def _once(texts: Iterable[str]) -> str:
    """Texts as one, each once and without empty ones."""
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _tally(counted: list[Judged]) -> str:
    """Verdicts with the settings that have them, the first three by name."""
    by_verdict: dict[str, list[str]] = {}
    for one in counted:
        by_verdict.setdefault(one.verdict, []).append(one.finding.setting)
    return "; ".join(
        f"{verdict} in {len(names)} ({' · '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)})"
        for verdict, names in by_verdict.items()
    )


def _reasons(found: list[Judged]) -> str:
    """Why these settings have no say, settings with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for one in found:
        by_reason.setdefault(one.finding.why, []).append(one.finding.setting)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())


def _used(names: list[str], values: Mapping[str, Any], shown_before: tuple[str, ...]) -> str:
    """The numbers that conditions used and that are not shown yet."""
    used = [name for name in names if name not in shown_before and values.get(name) is not None]
    return ", with " + ", ".join(f"{name} = {wording.number(float(values[name]))}" for name in used) if used else ""


def _sentence(text: str) -> str:
    """One line that ends with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith(".") else f"{line}."
