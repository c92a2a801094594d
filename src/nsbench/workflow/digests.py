"""The code of each stage, as a digest: what it calls, and what is registered and used in it."""

from __future__ import annotations

from collections.abc import Iterable

from nsbench.arms import ARMS
from nsbench.config.sections import Evaluation
from nsbench.data.tasks import TASKS
from nsbench.measures import MEASURES
from nsbench.storage.code_digest import code_digest
from nsbench.training.models import MODELS
from nsbench.workflow.plugins import file_of

REGISTRIES = {"task": TASKS, "model": MODELS, "arm": ARMS}
USES = {"dataset": ("task",), "train": ("arm", "model"), "evaluate": ("task", "model")}
"""Stage of a cell -> what it uses of what is registered: its code, and the file of a plug-in, concern this stage."""
TELL_OF_ARMS = ("analyse", "figure", "figures", "report")
"""Stages that show an arm's settings in words, or ask for its family; of the theory and of pretrained models there is
figure-without-arms."""


def digest(
    stage: str, *names: str, measures: Iterable[str] = tuple(Evaluation().measures), plugins: Iterable[str] = ()
) -> str:
    """Digest of the code that a stage runs; `names`: what is registered and used (USES), what draws the figures
    or finds the numbers of claims (`module:function`), or the theory's experiment. measures: those of an evaluation.
    plugins: the files of those that the grid uses.

    Stages that show arms run the code of every kind of arm that nsbench, a package or one of these files has. Those
    that show tasks (titles, leaks) come after the dataset stage, whose digest has the code of tasks.
    """
    used = [REGISTRIES[use].find(name) for use, name in zip(USES[stage], names, strict=True)] if stage in USES else []
    used += map(MEASURES.find, measures) if stage == "evaluate" else []
    used += [arm for arm in ARMS.values() if file_of(arm) in {None, *plugins}] if stage in TELL_OF_ARMS else []
    threads = "nsbench.storage.seeding:one_thread"
    roots = {
        "text": ["nsbench.data.text_sources:make_text", "nsbench.data.text_sources:resolve"],
        "dataset": ["nsbench.data.generate:make_datasets"],
        "train": ["nsbench.training.pack:train_pack", threads],
        "evaluate": ["nsbench.evaluation.run:evaluate_pack", threads],
        "finished": ["nsbench.workflow.run_states:write_states"],
        "collect": ["nsbench.analysis.collect:collect", "nsbench.workflow.recorded_runs:index"],
        "analyse": ["nsbench.analysis.tables:analyse"],
        "figure": ["nsbench.figures.drawing:render", *names],
        "figure-without-arms": ["nsbench.figures.drawing:render", *names],
        "figures": ["nsbench.figures.drawing:render_all", *names],
        "simulate": ["nsbench.simulation.run:simulate", threads, f"nsbench.simulation.{' '.join(names)}:simulate"],
        "theory": ["nsbench.simulation.curves:compute_theory"],
        "pretrained": ["nsbench.pretrained.run:measure_model", threads],
        "pretrained-tables": ["nsbench.analysis.pretrained_tables:join_models"],
        "claims": ["nsbench.claims:write_claims", "nsbench.claims:@", *names],
        "report": ["nsbench.report.page:write_report", *names],
        "track": ["nsbench.tracking:track"],
    }
    return code_digest(*roots[stage], *(f"{one.__module__}:{one.__name__}" for one in used))
