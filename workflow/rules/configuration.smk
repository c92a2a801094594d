# Checks the files of settings before Snakemake loads them: it says little of what is wrong with one.
import gc
from pathlib import Path

from nsbench.config import loader as config_files
from nsbench.config.base import ConfigError
from nsbench.workflow.terminal import take_over

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import update_config

# Modules and jobs stay: searching them for garbage again and again takes up to a quarter of a call's time.
gc.freeze()
gc.set_threshold(1_000_000, 50, 100)

# A node's output, and that of a part of a call, is Snakemake's own.
TERMINAL = take_over(logger, workflow.output_settings) if workflow.is_main_process else None

try:
    beside = Path(workflow.basedir)
    missing = [name for name in ("config.yaml", "claims.yaml") if (beside / name).exists() and not Path(name).exists()]
    if missing:
        raise ConfigError(f"{' and '.join(missing)}: not in {Path.cwd()}, the working directory; copy from {beside}")
    for configfile in ("config.yaml", *workflow.configfiles):
        config_files.read(Path(configfile))
    given = config_files.options(workflow.config_settings.config_args)
    update_config(workflow.config_settings.overwrite_config, given)
except ConfigError as error:
    raise WorkflowError(f"the configuration cannot be used. {error}") from None
