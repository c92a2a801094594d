"""`nsbench measure`: a shell on `nsbench.measure` that prints what it found, and writes and draws it."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from nsbench.config.base import ConfigError
from nsbench.report.measure import find_model, measure, name_for
from nsbench.storage.cores import usable_cores

SETTINGS = ("rho", "n_tokens", "n_sequences", "readouts", "inputs", "seed", "device", "batch_size", "max_memory_gb")


def measure_one(options: argparse.Namespace) -> None:
    """Measure a model and print the result; into `out`, if given, write its files.

    Raises ConfigError, ModelError, InputError, RecordError or DeviceError, each one sentence.
    """
    if not options.text.exists():
        raise ConfigError(f"--text {options.text}: no such file; a UTF-8 text is allowed")
    model = find_model(options.model, options.config)  # Before torch is loaded: most of what is wrong is found here.
    _use_cores()
    if sys.stderr.isatty():  # Else lines of the log instead of a bar.
        logging.getLogger("nsbench.pretrained").setLevel(logging.WARNING)
    settings = {name: getattr(options, name) for name in SETTINGS}
    control = not options.no_control
    found = measure(
        model, texts=options.text, out=options.out, control=control, name=name_for(options.model), **settings
    )
    if options.out:
        from nsbench.figures.style import save

        save(found.plot(), options.out / "influence.png", options.out / "influence.pdf")
        found.to_html(options.out / "measured.html")
    print(found.summary(options.full))
    if options.out:
        print(f"\nwritten: {options.out}: measured.html, influence.png, influence.pdf, *.parquet, tables/*.csv")


def _use_cores() -> None:
    """Compute on all cores, since one process is alone, or on as many as the environment says."""
    import torch

    if not any(map(os.environ.get, ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))):
        torch.set_num_threads(usable_cores())
