# Checks the files of settings before Snakemake loads them: it says little of what is wrong with one.
import gc
from pathlib import Path

from nsbench.config import loader as config_files
from nsbench.config.base import ConfigError

from snakemake.exceptions import WorkflowError

# Modules and jobs stay: searching them for garbage again and again takes up to a sixth of a call's time.
gc.set_threshold(100_000, 50, 100)

try:
    for configfile in ("config.yaml", *workflow.configfiles):
        config_files.read(Path(configfile))
except ConfigError as error:
    raise WorkflowError(f"the configuration cannot be used. {error}") from None
