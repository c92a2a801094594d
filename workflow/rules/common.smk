# Validates the configuration, expands the grid, and gives each stage its spec and source digest.
# The only rules file with functions.
from pathlib import Path

from nsbench import device, progress
from nsbench.config import ConfigError
from nsbench.figures import FIGURES
from nsbench.grid import load, refuse_duplicate_keys
from nsbench.plan import Plan, digest

from snakemake.exceptions import WorkflowError

try:
    for configfile in workflow.configfiles:
        refuse_duplicate_keys(Path(configfile))
    PLAN = Plan(load(config))
    GPUS_PER_JOB = int(device.wants_gpu(PLAN.config.device))
except (ConfigError, device.DeviceError) as error:
    raise WorkflowError(f"the configuration cannot be used. {error}") from None

PACK = "{task}/{variant}/{arm}/{pack}"
TRACKING_URI = PLAN.config.tracking.uri or "sqlite:///results/mlflow.db"


def pack_files(name):
    """The file of that name of every pack of the grid."""
    return [f"results/packs/{'/'.join(pack)}/{name}" for pack in PLAN.packs]


def figure_module(wildcards):
    """The module that draws a figure."""
    return FIGURES[wildcards.figure][0]


def minutes(base):
    """A job's time limit for cluster profiles: doubled at each retry."""
    return lambda wildcards, attempt: base * 2 ** (attempt - 1)
