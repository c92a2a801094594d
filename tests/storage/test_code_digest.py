"""Which stages an edit of the code concerns."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsbench.config.theory import EXPERIMENTS
from nsbench.figures import FIGURES
from nsbench.storage import code_digest, definitions
from nsbench.storage.definitions import PACKAGE
from nsbench.workflow import plan
from nsbench.workflow.digests import digest
from tests.source_code import edit

TASKS = ("modular_addition", "sparse_parity", "next_token")
KINDS = ("baseline", "entropy", "noise_stability")
ROOTS = {one.root: one.kind for one in FIGURES.values()}
DRAWN = [root for root, kind in ROOTS.items() if kind == "training"]
ASIDE = [root for root in ROOTS if root not in DRAWN]
STAGES = [
    ("text", ""),
    *(("dataset", task) for task in TASKS),
    *(("train", kind, "transformer") for kind in KINDS),
    *(("evaluate", task, "transformer") for task in TASKS),
    ("finished", ""),
    ("collect", ""),
    ("analyse", ""),
    *(("figure", root) for root in DRAWN),
    ("figures", *DRAWN),
    *(("simulate", experiment) for experiment in EXPERIMENTS),
    ("theory", ""),
    *(("figure-without-arms", root) for root in ASIDE),
    ("pretrained", ""),
    ("pretrained-tables", ""),
    ("claims",),
    ("report", *ROOTS),
    ("track", ""),
]
"""Every stage that the rules ask a digest of."""


def stage_name(stage: str, *names: str) -> str:
    return stage if stage in ("claims", "figures", "report") else f"{stage} {' '.join(names[:1])}".strip()


DATASETS = {f"dataset {task}" for task in TASKS}
TRAINS = {f"train {kind}" for kind in KINDS}
EVALUATES = {f"evaluate {task}" for task in TASKS}
SIMULATES = {f"simulate {experiment}" for experiment in EXPERIMENTS}
FIGURES_DRAWN = {"figures", *(f"figure {root}" for root in DRAWN)}
ALL_DRAWN = FIGURES_DRAWN | {f"figure-without-arms {root}" for root in ASIDE}
TELL_OF_ARMS = FIGURES_DRAWN | {"analyse", "report"}


def digests() -> dict[str, str]:
    code_digest.forget()
    return {stage_name(*stage): digest(*stage) for stage in STAGES}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The digests of the package as it is."""
    found = digests()
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in found.values())
    return found


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that the digests look at instead."""
    folder = tmp_path / PACKAGE
    shutil.copytree(definitions.SOURCE_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(definitions, "SOURCE_FOLDER", folder)
    code_digest.forget()
    yield folder
    monkeypatch.undo()
    code_digest.forget()


def changed(before: dict[str, str]) -> set[str]:
    after = digests()
    return {stage for stage in before if before[stage] != after[stage]}


# --- what changes no digest ----------------------------------------------------------------------------


def test_the_table_has_every_stage_that_a_rule_asks_a_digest_of() -> None:
    rules = "".join(path.read_text() for path in (Path(__file__).parents[2] / "workflow" / "rules").glob("*.smk"))
    plan_text = Path(plan.__file__).read_text()
    asked = set(re.findall(r'(?:digest|code_of|code_by)\("([a-z-]+)"', rules + plan_text))
    # A figure that shows no arm is asked as the others are.
    assert asked == {stage for stage, *_ in STAGES} - {"figure-without-arms"}


def test_comments_docstrings_layout_and_what_no_stage_uses_change_no_digest(before: dict[str, str], copy: Path) -> None:
    """Nor do an editor's links, and files that are gone."""
    for path in copy.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^( *)(def |class )", r"\1# a comment\n\1\2", text, flags=re.MULTILINE)
        text = re.sub(r'^( *)"""(?=\w)', r'\1"""Otherwise put: ', text, flags=re.MULTILINE)
        unused = "\n\ndef used_by_nobody():\n    return 1\n\n\n# the end\n"
        path.write_text(text + unused, encoding="utf-8")
    assert changed(before) == set()
    for path in copy.rglob("*.py"):
        path.write_text(ast.unparse(ast.parse(path.read_text(encoding="utf-8"))), encoding="utf-8")
    for name in ("claims/.#training.py", "training/.#step.py", "training/gone.py"):
        (copy / name).symlink_to("user@host.4242:1700000000")
    assert changed(before) == set()


def test_a_module_s_place_and_name_change_no_digest(before: dict[str, str], copy: Path) -> None:
    (copy / "room").mkdir()
    (copy / "room" / "__init__.py").write_text("")
    (copy / "training" / "step.py").rename(copy / "room" / "one_step.py")
    (copy / "storage" / "parquet.py").rename(copy / "room" / "tables.py")
    for path in copy.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"\bnsbench\.training\.step\b", "nsbench.room.one_step", text)
        text = re.sub(r"\bfrom nsbench\.storage import parquet\b", "import nsbench.room.tables as parquet", text)
        text = re.sub(r"\bnsbench\.storage\.parquet\b", "nsbench.room.tables", text)
        path.write_text(text, encoding="utf-8")
    assert changed(before) == set()


def test_another_name_for_a_definition_changes_no_digest(before: dict[str, str], copy: Path) -> None:
    for path in copy.rglob("*.py"):
        text = re.sub(r"\b(TrainingStep|HISTORY)\b", r"renamed_\1", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    assert changed(before) == set()


# --- what an edit concerns -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "stages"),
    [
        ("data/text_sources:make_text", {"text"}),
        ("data/tasks/sparse_parity:SparseParity", {"dataset sparse_parity", "evaluate sparse_parity"}),
        (
            "config/canonical:canonical_json",
            {"finished", "collect", "analyse", "theory", "pretrained", "report"}
            | DATASETS
            | TRAINS
            | EVALUATES
            | SIMULATES
            | ALL_DRAWN,
        ),
        ("storage/seeding:stream", DATASETS | TRAINS | EVALUATES),
        ("storage/seeding:one_thread", {"pretrained"} | TRAINS | EVALUATES | SIMULATES),
        ("training/step:TrainingStep", TRAINS),
        ("regularizer/stability:agreement", {"train noise_stability"} | TELL_OF_ARMS),
        ("arms/controls:Entropy", {"train entropy"} | TELL_OF_ARMS),
        ("regularizer/term:LossTerm", TRAINS | TELL_OF_ARMS | {"finished"}),
        ("training/models/transformer_stack:TransformerStack", TRAINS | EVALUATES),
        ("perturbations/tokens:resample_tokens", {"pretrained", "finished"} | TRAINS | EVALUATES),
        ("measures/stability:noise_stability", EVALUATES),
        ("measures/base:Estimate", {"pretrained"} | EVALUATES),
        ("measures/resampling:token_noise_stability", {"pretrained"}),
        ("workflow/run_states:states", {"finished"}),
        ("analysis/tables:analyse", {"analyse"}),
        ("analysis/statistics/signed_rank:typical_value", {"analyse", "claims"}),
        ("claims/training:_paired_effect", {"claims"}),
        ("figures/figure_05:draw", {"figure nsbench.figures.figure_05:draw", "figures", "report"}),
        ("figures/style:save", ALL_DRAWN),
        ("schemas/analysis:SCORE", {"analyse", "claims", "report"}),
        ("simulation/attention:simulate", {"simulate attention"}),
        (
            "theory/relu:relu_stability",
            {"theory", "claims", "report"}
            | {f"figure-without-arms nsbench.figures.figure_{name}:draw" for name in ("04b", "09")},
        ),
        ("analysis/pretrained_tables:tail_bounds", {"pretrained-tables"}),
        ("tracking/importer:track", {"track"}),
    ],
)
def test_an_edit_changes_the_stages_that_reach_it_and_no_other(
    before: dict[str, str], copy: Path, place: str, stages: set[str]
) -> None:
    edit(copy, place)
    assert changed(before) == stages


def test_an_edit_of_what_makes_no_result_changes_no_stage(before: dict[str, str], copy: Path) -> None:
    templates = ("data/tasks/template:MyKind", "arms/template:MyKindArm")
    for place in (*templates, "storage/device:use_device", "config/base:parse", "cli/parser:main"):
        edit(copy, place)
    assert changed(before) == set()


def test_settings_reach_a_stage_as_its_spec_and_what_they_work_out_as_code(before: dict[str, str], copy: Path) -> None:
    path = copy / "training/run.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("    checkpoint_count: int\n", "    checkpoint_count: int = 3\n    more: int = 1\n"))
    assert changed(before) == set()
    work = "    def work(self) -> int:\n        return 1\n\n    checkpoint_count: int\n"
    path.write_text(text.replace("    checkpoint_count: int\n", work))
    assert changed(before) == TRAINS


def test_a_file_beside_a_module_that_shares_its_name_counts_as_its_code(before: dict[str, str], copy: Path) -> None:
    with (copy / "report/page.html.j2").open("a", encoding="utf-8") as file:
        file.write("<!-- edited -->")
    assert changed(before) == {"report"}
    (copy / "training/pack.json").write_text("{}")
    assert changed(before) == {"report"} | TRAINS


def test_digests_are_kept_until_a_source_file_changes(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = ("dataset", "sparse_parity"), ("claims",)
    first = [digest(*stage) for stage in stages]
    code_digest.forget()
    with monkeypatch.context() as patched:
        patched.setattr(code_digest, "_computed", lambda roots: "")
        assert [digest(*stage) for stage in stages] == first
        edit(copy, "claims/training:_paired_effect")
        code_digest.forget()
        assert digest("claims") == ""
    code_digest.forget()
    next((copy / "__pycache__").iterdir()).write_text('{"source": 1}')
    assert digest("dataset", "sparse_parity") == first[0]


def test_a_digest_of_source_that_was_edited_meanwhile_is_not_kept(copy: Path) -> None:
    path = copy / "sample.py"
    path.write_text("def f(): return 1\ndef g(): return 2\n")
    right = code_digest.code_digest("nsbench.sample:f")
    shutil.rmtree(copy / "__pycache__")
    code_digest.forget()
    code_digest.code_digest("nsbench.storage.atomic:HOST")
    path.write_text("def f(): return 3\ndef g(): return 2\n")
    assert code_digest.code_digest("nsbench.sample:f") != right
    path.write_text("def f(): return 1\ndef g(): return 2\n")
    code_digest.code_digest("nsbench.sample:g")
    code_digest.forget()
    assert code_digest.code_digest("nsbench.sample:f") == right


# --- small modules -------------------------------------------------------------------------------------


def digest_of(folder: Path, text: str, other: str = "", root: str = "f") -> str:
    (folder / "sample.py").write_text(text)
    (folder / "other.py").write_text(other)
    code_digest.forget()
    return code_digest.code_digest(f"nsbench.sample:{root}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('def f():\n    """Word."""\n    return 1', "def f():\n    return 1"),
        ("f = 'a'", 'f = "a"'),
        ("x = 1\nf = 2", "f = 2\nx = 3"),
        ("x = 1\ndef f(): return x", "def g(): return 1\nx = 1\nz = x\ndef f(): return x"),
        ("x = 1\ndef f(): return x", "y = 1\ndef f(): return y"),
        ("import math\ndef f(): return math.e", "import math as m\ndef f(): return m.e"),
        ("def g(): return f()\ndef f(): return g()", "def h(): return f()\ndef f(): return h()"),
        ("from nsbench.other import a\ndef f(): return a", "import nsbench.other as o\ndef f(): return o.a"),
        ("from nsbench.other import a\ndef f(): return a", "from nsbench.other import b\ndef f(): return b"),
        ("from nsbench.other import a\ndef f(): return a", "def f():\n    from nsbench.other import a\n    return a"),
        ("from nsbench.other import a\ndef f(): return a", "a = 1\ndef f(): return a"),
    ],
)
def test_the_same_code_has_the_same_digest(copy: Path, old: str, new: str) -> None:
    other = "a = 1\nb = 1"
    assert digest_of(copy, old, other) == digest_of(copy, new, other)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("f = 1", "f = 2"),
        ("f = ''", "f = '''Text that is a value.'''"),
        ("def f(a=0): return a", "def f(a=1): return a"),
        ("def f():\n    return 1", "@cache\ndef f():\n    return 1"),
        ("x = 1\ndef f(): return x", "x = 2\ndef f(): return x"),
        ("x = 1\ndef f(): return x", "x = 1\nx += 1\ndef f(): return x"),
        ("x = {}\ndef f(): return x", "x = {}\nx['a'] = 1\ndef f(): return x"),
        ("x, y = 1, 2\ndef f(): return x", "x, y = 1, 2\ndef f(): return y"),
        ("from math import e\ndef f(): return e", "from cmath import e\ndef f(): return e"),
        ("import numpy as n\ndef f(): return n.e", "import math as n\ndef f(): return n.e"),
        ("from nsbench.other import a\ndef f(): return a", "from nsbench.other import c\ndef f(): return c"),
        (
            "from nsbench import other\ndef f(): return other",
            "from nsbench.training import step\ndef f(): return step",
        ),
        ("class A:\n    x = 1\nclass f(A): pass", "class A:\n    x = 2\nclass f(A): pass"),
        ("x = 1\ndef f(x): return x", "x = 1\ndef f(y): return x"),
        (
            "x = 1\ndef f():\n    global x\n    x = 2\n    return x",
            "x = 0\ndef f():\n    global x\n    x = 2\n    return x",
        ),
    ],
)
def test_other_code_has_another_digest(copy: Path, old: str, new: str) -> None:
    other = "a = 1\nc = 2"
    assert digest_of(copy, old, other) != digest_of(copy, new, other)


def test_what_is_not_there_is_an_error(copy: Path) -> None:
    with pytest.raises(ValueError, match=r"no module 'nsbench\.nowhere' in nsbench"):
        code_digest.code_digest("nsbench.nowhere")
    with pytest.raises(ValueError, match=r"nsbench\.sample defines no 'g'"):
        digest_of(copy, "f = 1", root="g")
    with pytest.raises(ValueError, match=r"nsbench\.other defines no 'a'"):
        digest_of(copy, "from nsbench.other import a\ndef f(): return a")


def test_code_outside_the_package_counts_where_it_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = copy.parent / "mine.py"
    mine.write_text("from nsbench.sample import f\ndef mine(): return f()")
    monkeypatch.setitem(definitions.elsewhere, "my_plugin", mine)
    found = set()
    for text in ("def f(): return 1", "def f(): return 2"):
        digest_of(copy, text)
        found.add(code_digest.code_digest("my_plugin:mine"))
    assert len(found) == 2
