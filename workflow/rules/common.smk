# Validates the configuration, expands the grid, and gives each stage its spec and source digest.
# The only rules file with functions.
import contextlib
import os

from nsbench import device, needs, progress, tracking_uri
from nsbench.analysis import TABLES
from nsbench.closed import ConfigError, canonical_json
from nsbench.figures import FIGURES, figures_for, module_of
from nsbench.figures.captions import caption
from nsbench.figures.pretrained import FIGURES as PRETRAINED_FIGURES
from nsbench.figures.theory import FIGURES as THEORY_FIGURES
from nsbench.files import FileError
from nsbench.grid import load
from nsbench.occupancy import OccupiedError
from nsbench.plan import Plan, digest, grid_cells
from nsbench.pretrained_records import PARTS as PRETRAINED_PARTS
from nsbench.pretrained_records import TABLES as PRETRAINED_TABLES
from nsbench.settings import OF_TEXT
from nsbench.text_sources import resolve
from nsbench.theory_settings import EXPERIMENTS

from snakemake.exceptions import WorkflowError

try:
    PLAN = Plan(load(config))
    # The text is fetched where one types; a node may not even see it.
    needs_text = PLAN.needs_text() and not workflow.remote_exec
    TEXT_SPEC = canonical_json(resolve(PLAN.config.text, os.environ)) if needs_text else ""
    MODEL_FILES = {}
    if PLAN.config.pretrained is not None:
        MODEL_FILES = {name: PLAN.model_files(name) for name in PLAN.config.pretrained.chosen}
except ConfigError as error:
    raise WorkflowError(f"the configuration cannot be used. {error}") from None

THEORY_TABLE = [] if PLAN.config.theory is None else ["results/tables/theory.parquet"]
PRETRAINED_FILES = []
if PLAN.config.pretrained is not None:
    PRETRAINED_FILES = [f"results/tables/{name}.parquet" for name in PRETRAINED_TABLES]
PRETRAINED_CSV = [name for name in PRETRAINED_TABLES if name != "pretrained_influence"]
COLLECTED_FILES = [f"results/collected/{name}.parquet" for name in ("history", "runs", "evaluation", "floors")]
CLAIMS_FILES = ["results/claims.parquet", "results/claim_evidence.parquet"]
PACK = "{task}/{variant}/{arm}/{pack}"
TRACKING_URI = tracking_uri.shown(
    tracking_uri.resolve(PLAN.config.tracking.uri, os.environ, "sqlite:///results/mlflow.db")
)
GPUS_PER_JOB = device.gpus_per_job(PLAN.config.device)
DEVICE_ASKED = "cuda" if GPUS_PER_JOB else "cpu"
HELD = contextlib.ExitStack()


def begin():
    """Hold the results folder until this process ends, and begin to report."""
    try:
        # Where jobs run is not known before.
        device.check_place(PLAN.config.device, here=workflow.local_exec)
    except device.DeviceError as error:
        raise WorkflowError(f"the configuration cannot be used. {error}") from None
    try:
        progress.start(PLAN, HELD)
    except (OccupiedError, FileError) as error:
        raise WorkflowError(str(error)) from None


def pack_files(name):
    """The file of that name of every pack of the grid."""
    return [f"results/packs/{'/'.join(pack)}/{name}" for pack in PLAN.packs]


def floor_files():
    """The floors of every data set of the grid."""
    return [f"results/datasets/{task}/{variant}/{pack}.floors.parquet" for task, variant, pack in PLAN.datasets()]


def figure_module(wildcards):
    """The module that draws a figure."""
    return module_of(wildcards.figure)


def report_figures():
    """The figures of the report: those that the grid can fill, the theory's, and those of pretrained models."""
    theory = [] if PLAN.config.theory is None else THEORY_FIGURES
    pretrained = [] if PLAN.config.pretrained is None else PRETRAINED_FIGURES
    return [*figures_for(grid_cells(PLAN.config)), *theory, *pretrained]


def minutes(base):
    """A job's time limit for cluster profiles: doubled at each retry."""
    return lambda wildcards, attempt: min(base * 2 ** (attempt - 1), PLAN.config.cluster.max_minutes)


def megabytes(base):
    """A job's memory for cluster profiles: more at each retry."""
    return lambda wildcards, attempt: base * attempt


def train_minutes(w, attempt):
    """The time limit of a pack's training."""
    flops = len(PLAN.seeds[w.pack]) * needs.train_flops(PLAN.cells[w.task, w.variant, w.arm])
    return needs.minutes(flops, DEVICE_ASKED, PLAN.config.cluster, attempt)


def train_mb(w, attempt):
    """The memory of a pack's training."""
    cell = PLAN.cells[w.task, w.variant, w.arm]
    return needs.train_mb(cell, len(PLAN.seeds[w.pack]), DEVICE_ASKED) * attempt


def evaluate_minutes(w, attempt):
    """The time limit of a pack's evaluation."""
    cell = PLAN.cells[w.task, w.variant, w.arm]
    flops = needs.evaluate_flops(cell, PLAN.config.evaluation, PLAN.config.checkpoints.count)
    return needs.minutes(len(PLAN.seeds[w.pack]) * flops, DEVICE_ASKED, PLAN.config.cluster, attempt)


def evaluate_mb(w, attempt):
    """The memory of a pack's evaluation."""
    return needs.evaluate_mb(PLAN.cells[w.task, w.variant, w.arm], PLAN.config.evaluation, DEVICE_ASKED) * attempt
