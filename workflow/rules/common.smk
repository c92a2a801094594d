# Validates the configuration, expands the grid, and gives each stage its spec and code digest.
# The only rules file with functions.
import atexit
import contextlib
import json
import math
import os
import shlex
import stat
import sys
import time
from pathlib import Path

from nsbench.cli.code import stage_code
from nsbench.config import loader as config_files
from nsbench.config import tracking_uri
from nsbench.config.base import ConfigError
from nsbench.config.canonical import canonical_json
from nsbench.config.errors import nearest
from nsbench.config.theory import EXPERIMENTS
from nsbench.data.tasks import TASKS
from nsbench.data.text_sources import resolve
from nsbench.figures import FIGURES, caption, find
from nsbench.figures.drawing import figures_for
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.pretrained import PARTS as PRETRAINED_PARTS
from nsbench.schemas.pretrained import TABLES as PRETRAINED_TABLES
from nsbench.storage import code_digest, device
from nsbench.storage.atomic import FileError, write_text
from nsbench.workflow import job_seconds, progress
from nsbench.workflow import resources as job_resources
from nsbench.workflow.freshness import are_fresh, is_newer, outdated
from nsbench.workflow.grid import load
from nsbench.workflow.pace import Pace
from nsbench.workflow.plan import Plan, digest, plain
from nsbench.workflow.plugins import file_of
from nsbench.workflow.recorded_runs import index
from nsbench.workflow.results_lock import OccupiedError
from nsbench.workflow.run_states import inputs_digest
from nsbench.workflow.terminal import NAME

from snakemake.cli import get_argument_parser
from snakemake.exceptions import WorkflowError
from snakemake.persistence import ParamsChange, PersistenceBase

PLANNED = Path("results/planned.json")
PLANNED_THERE = {}
if workflow.remote_exec and PLANNED.exists():
    # A node reads these rules again; its jobs are held to the code and the settings that they were submitted with.
    PLANNED_THERE = json.loads(PLANNED.read_text())
    code_digest.given |= PLANNED_THERE["code"]

try:
    LOADED = load(config)
    if PLANNED_THERE and PLANNED_THERE["config"] != canonical_json(LOADED):
        raise ConfigError("It was edited since these jobs were submitted; give the same command again")
    PLAN = Plan(LOADED, index(LOADED))
    # The text is fetched where one types; a node may not even see it.
    needs_text = PLAN.needs_text() and not workflow.remote_exec
    TEXT_SPEC = canonical_json(resolve(PLAN.config.text, os.environ)) if needs_text else ""
    PLAN.check_models()
    RECORD_FILES = [str(path) for path in PLAN.records.files]
    config_files.refuse_braces(RECORD_FILES)
except (ConfigError, FileError) as error:
    raise WorkflowError(f"the configuration cannot be used. {error}") from None

THEORY_TABLE = [] if PLAN.config.theory is None else ["results/tables/theory.parquet"]
PRETRAINED_FILES = []
if PLAN.config.pretrained is not None:
    PRETRAINED_FILES = [f"results/tables/{name}.parquet" for name in PRETRAINED_TABLES]
PRETRAINED_FOLDER = "results/tables" if PRETRAINED_FILES else ""
PRETRAINED_CSV = [name for name in PRETRAINED_TABLES if name != "pretrained_influence"]
COLLECTED_FILES = [f"results/collected/{name}.parquet" for name in ("history", "runs", "evaluation", "floors")]
CLAIMS_FILES = ["results/claims.parquet", "results/claim_evidence.parquet"]
KINDS = {"training": "Training", "theory": "Theory", "pretrained": "Pretrained models"}
"""What figures are of -> their part of Snakemake's report."""
PACK = "{task}/{variant}/{arm}/{pack}"
TRACKING_URI = tracking_uri.shown(
    tracking_uri.resolve(PLAN.config.tracking.uri, os.environ, "sqlite:///results/mlflow.db")
)
GPUS_PER_JOB = device.gpus_per_job(PLAN.config.device)
N_GPUS = getattr(workflow.global_resources.get("gpu"), "value", None) or 1  # --lint has the name without a value
DEVICE_ASKED = "cuda" if GPUS_PER_JOB else "cpu"
QUIET = {"rules", "host", "reason", "progress"}
"""What may be said after `--quiet`."""
HELD = contextlib.ExitStack()
atexit.register(HELD.close)
BEGUN = time.time()
PARTIAL = str(progress.PARTIAL)


def is_on_record(persistence, output):
    """Whether Snakemake has a record of an output as it is: of this time, so of the job that wrote it."""
    record, found = persistence.metadata(output), os.lstat(output)
    marker = os.path.join(output, ".snakemake_timestamp")
    if stat.S_ISDIR(found.st_mode) and os.path.exists(marker):
        found = os.lstat(marker)
    return record is not None and record.endtime == found.st_mtime


def params_changed(persistence, job, file=None, recorded=PersistenceBase.params_changed):
    """Snakemake's own comparison of a job's params with its record; where it has none of files as they are (it was lost, or
    they were replaced), with what these say of their origin."""
    changes, known = recorded(persistence, job, file), hasattr(job.params, "spec")
    there = [output for output in job.output if known and os.path.lexists(output)]
    unknown = [output for output in there if not is_on_record(persistence, output)]
    if unknown and not changes and not are_fresh(map(Path, unknown), job.params.spec, job.params.digest):
        return ParamsChange({"other settings or code, or unknown ones"}, {"these"}, set(unknown))
    return changes


# Without this, Snakemake takes outputs that it has no record of for up to date.
PersistenceBase.has_metadata = lambda persistence, job: True
PersistenceBase.params_changed = params_changed
# Its way with params that are data frames, of which there are none, imports pandas: a tenth of a call with nothing to do.
PersistenceBase._serialize_param = PersistenceBase._serialize_param_builtin


def is_partial():
    """Whether nothing is asked for but reports on what is finished: they may be made beside a workflow that trains."""
    targets = workflow.dag_settings.targets  # known only when all rules are read
    return bool(targets) and all(
        name == "partial" or os.path.relpath(name).startswith(f"{PARTIAL}/") for name in targets
    )


def check_targets():
    """Refuse a target that nothing makes, and name the nearest one. Called when all rules are read.

    Snakemake hands targets on later, so they are read from its command line, as it reads them itself; that takes a
    quarter of a second, so only where a word of it may be one.
    """

    def is_made(word):
        return os.path.exists(word) or any(word == rule.name or rule.is_producer(word) for rule in workflow.rules)

    def may_be_target(word):
        return not (word.startswith("-") or "=" in word or word.isdigit() or word in QUIET or is_made(word))

    if Path(sys.argv[0]).name != "snakemake" or not any(map(may_be_target, sys.argv[1:])):
        return
    known = [name for rule in workflow.rules for name in [rule.name, *map(str, rule.output)] if "{" not in name]
    known += [f"results/figures/{name}.png" for name in report_figures()]
    for target in get_argument_parser().parse_known_args()[0].targets:
        if not is_made(target):
            raise WorkflowError(f"{target}: nothing makes this{nearest(target, known)}")


def say(text):
    """A line for the terminal, in whatever display the user chose."""
    logger.info(NAME + text)


def call_pace():
    """The jobs of this call, and the time that they take."""
    dag = workflow.dag
    ids = {job: dag.jobid(job) for job in dag.needrun_jobs() if job.output}
    asked = [
        job_seconds.Asked(
            ids[job],
            job.rule.name,
            job.wildcards_dict,
            tuple(ids[need] for need in dag.dependencies[job] if need in ids),
            bool(GPUS_PER_JOB and "gpu" in job.rule.resources),
        )
        for job in ids
    ]
    at_once = workflow.cores if workflow.local_exec else workflow.nodes
    return Pace(job_seconds.guessed(PLAN, asked, progress.RESULTS / "runs"), at_once, N_GPUS, time.time())


def show_details():
    """Let Snakemake show files and resources of jobs where it speaks itself: of a rule with a message it shows none."""
    if TERMINAL is None:
        for each in workflow.rules:
            each.message = None


def begin():
    """Hold the folder of results, or of partial ones, until this process ends, and begin to report."""
    pace = call_pace()
    try:
        if is_partial():
            progress.start_partial(HELD, say)
        else:
            # Where jobs run is not known before.
            device.check_place(PLAN.config.device, here=workflow.local_exec)
            progress.start(PLAN, HELD, pace, say)
            if not (workflow.local_exec or workflow.remote_exec):
                write_text(PLANNED, canonical_json({"code": code_digest.known(), "config": canonical_json(LOADED)}))
            if GPUS_PER_JOB:
                write_text("results/stacks.json", canonical_json({"n_gpus": N_GPUS, "stacks": PLAN.stacks}))
    except device.DeviceError as error:
        raise WorkflowError(f"the configuration cannot be used. {error}") from None
    except (OccupiedError, FileError) as error:
        raise WorkflowError(str(error)) from None
    if TERMINAL:
        TERMINAL.begin(pace)


def finish():
    """Name what was made."""
    if TERMINAL:
        TERMINAL.end()
    if is_partial():
        progress.finish_partial(say)
    else:
        progress.finish(PLAN, TRACKING_URI, time.time() - BEGUN, say)


def fail():
    """Say what is kept."""
    if TERMINAL:
        TERMINAL.end()
    if is_partial():
        progress.fail_partial(say)
    else:
        progress.fail(TERMINAL.failed if TERMINAL else [], bool(TERMINAL and TERMINAL.stopped), say)


def pack_files(name, packs=PLAN.packs):
    """The file of that name of each of the packs; of every pack of the grid."""
    return [f"results/packs/{'/'.join(pack)}/{name}" for pack in packs]


def floor_files():
    """The floors of every data set of the grid."""
    return [f"results/datasets/{task}/{variant}/{pack}.floors.parquet" for task, variant, pack in PLAN.datasets()]


def run_files(wildcards):
    """A digest of the files that states of runs are read from, so that a call after any change reads them again."""
    others = [*THEORY_TABLE, *PRETRAINED_FILES, *(f"results/figures/{name}.png" for name in other_figures())]
    return inputs_digest(PLAN, progress.RESULTS, others)


def outdated_parts():
    """Which of the theory and of pretrained models are there of other settings or code; partial results leave them out."""
    return outdated(PLAN, progress.RESULTS, TEXT_SPEC)


def option(flag, values):
    """A command's option with its values; nothing where there are none."""
    return " ".join([flag, *([values] if isinstance(values, str) else values)]) if values else ""


def outdated_option():
    """A command's option that names them."""
    return option("--outdated", outdated_parts())


def if_fresh(part, value, files):
    """A command's option for a part that partial results take as it is: where its files are there and fresh."""
    return option(f"--{part}", value) if all(map(os.path.exists, files)) and part not in outdated_parts() else ""


def fresh_figures():
    """The figures of the theory and of pretrained models that are there, and no older than their numbers."""
    old, fresh = outdated_parts(), []
    for name in other_figures():
        path = Path(f"results/figures/{name}.png")
        if FIGURES[name].kind not in old and path.exists():
            sources = [progress.RESULTS / file for file in FIGURES[name].files().values()]
            fresh += [] if any(is_newer(source, path) for source in sources) else [str(path)]
    return " ".join(fresh)


def report_figures():
    """The figures of the report: those that the grid can fill, the theory's, and those of pretrained models."""
    training = figures_for(plain(PLAN.cells.values()), measures=PLAN.config.evaluation.measures)
    return [*training, *other_figures()]


def other_figures():
    """The figures that show no run: the theory's, and those of pretrained models."""
    return figures_for([], PLAN.config.theory is not None, PLAN.config.pretrained is not None)


def figure_tables(w):
    """The tables that a figure reads."""
    return [f"results/{file}" for file in find(w.figure)[0].files().values()]


def figure_spec(w):
    """The settings that a figure is drawn with."""
    drawing = find(w.figure)[0]
    specs = {"theory": lambda: PLAN.theory_figure(drawing.experiment), "pretrained": PLAN.pretrained_figure}
    return specs.get(drawing.kind, PLAN.grid)()


def figure_plugin(w):
    """The option of a command that names the file of the plug-in that a figure is from."""
    file = file_of(find(w.figure)[0])
    return option("--plugins", [shlex.quote(file)] if file else [])


def plugins_option(stage):
    """Makes the option of a stage's command that names the files of the plug-ins that a cell uses. Runs keep their key when
    a file moves."""

    def option(w):
        files = PLAN.plugin_files(stage, w.task, w.variant, getattr(w, "arm", ""))
        return f"--plugins {shlex.join(files)}" if files else ""

    # Without plug-ins one text for all jobs: a function costs Snakemake a tenth of a millisecond for each.
    return option if PLAN.config.plugins else ""


def code_of(stage):
    """Makes the digest of the code that a stage of a cell runs."""
    return lambda w: PLAN.code(stage, w.task, w.variant, getattr(w, "arm", ""))


def code_by(stage, spec):
    """Makes the digest of the code that a stage of the whole grid runs with a spec."""
    settings = json.loads(spec)
    return lambda w: stage_code(stage, settings, getattr(w, "figure", ""))


def minutes(base, in_one=1):
    """A job's time limit for cluster profiles: doubled at each retry. in_one: of so many that are one job there."""
    most = PLAN.config.cluster.max_minutes // in_one
    return lambda wildcards, attempt: min(base * 2 ** (attempt - 1), most)


def megabytes(base):
    """A job's memory for cluster profiles: more at each retry."""
    return lambda wildcards, attempt: base * attempt


def n_cells(w):
    """How many cells the job of a pack may train: on a GPU its share of its stack."""
    arms = (
        stack.arms
        for stack in PLAN.stacks
        if (stack.task, stack.variant) == (w.task, w.variant) and w.arm in stack.arms
    )
    return max([1, *(math.ceil(len(of_stack) / N_GPUS) for of_stack in arms)]) if GPUS_PER_JOB else 1


def pack_minutes(w, attempt):
    """The time limits of a pack's training and of its evaluation."""
    cell, n_runs = PLAN.cells[w.task, w.variant, w.arm], len(PLAN.seeds[w.pack])
    train = n_cells(w) * n_runs * job_resources.train_flops(cell)
    evaluate = n_runs * job_resources.evaluate_flops(cell, PLAN.config.evaluation, PLAN.config.checkpoints.count)
    return job_resources.pack_minutes(train, evaluate, DEVICE_ASKED, PLAN.config.cluster, attempt)


def train_mb(w, attempt):
    """The memory of a pack's training."""
    cell = PLAN.cells[w.task, w.variant, w.arm]
    return job_resources.train_mb(cell, n_cells(w) * len(PLAN.seeds[w.pack]), DEVICE_ASKED) * attempt


def evaluate_mb(w, attempt):
    """The memory of a pack's evaluation."""
    return (
        job_resources.evaluate_mb(PLAN.cells[w.task, w.variant, w.arm], PLAN.config.evaluation, DEVICE_ASKED) * attempt
    )


def analyse_mb(wildcards, attempt):
    """The memory of what reads the histories of all runs."""
    return job_resources.analyse_mb(PLAN.cells.values()) * attempt
