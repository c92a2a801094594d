"""nsbench: config.yaml -> dataset -> train -> evaluate -> collect -> analyse -> figures, report; theory, pretrained -> report."""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/configuration.smk"


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


wildcard_constraints:
    task="[a-z][a-z0-9_]*",
    variant="[A-Za-z0-9][A-Za-z0-9_.-]*",
    arm="[A-Za-z0-9][A-Za-z0-9_.-]*",
    pack="seeds-[0-9a-f-]+",
    figure="|".join(report_figures()),
    experiment="|".join(EXPERIMENTS),
    model="[A-Za-z0-9][A-Za-z0-9_.-]*",


localrules:
    all,
    partial,
    runs,


rule all:
    default_target: True
    input:
        "results/report.html",
        "results/tracked.json",


include: "workflow/rules/dataset.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"
include: "workflow/rules/partial.smk"


if PLAN.config.theory is not None:

    include: "workflow/rules/theory.smk"


if PLAN.config.pretrained is not None:

    include: "workflow/rules/pretrained.smk"


check_targets()
show_details()


onstart:
    begin()


onsuccess:
    finish()


onerror:
    fail()
