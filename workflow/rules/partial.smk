# A report on the runs that are finished so far. Packs are no inputs here, since Snakemake would train what is outdated.
FINISHED = f"--finished {PARTIAL}/finished.parquet"
PARTIAL_COLLECTED = [path.replace("results", PARTIAL, 1) for path in COLLECTED_FILES]
PARTIAL_TABLES = expand(f"{PARTIAL}/tables/{{table}}.parquet", table=TABLES)


rule partial:
    input:
        f"{PARTIAL}/report.html",
        f"{PARTIAL}/missing.csv",


rule list_run_states:
    output:
        finished=f"{PARTIAL}/finished.parquet",
        missing=f"{PARTIAL}/missing.csv",
    log:
        "results/logs/partial/finished.log",
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        spec=PLAN.grid("runs_per_pack", "records", "text", "checkpoints", "evaluation"),
        digest=lambda w: digest("finished"),
        text_spec=TEXT_SPEC or "null",
        files=run_files,
    message:
        "look which runs are finished"
    shell:
        "nsbench stage finished --spec {params.spec:q} --digest {params.digest} --results results"
        " --text-spec {params.text_spec:q} --out {output.finished} --missing {output.missing} > {log} 2>&1"


use rule collect_packs as collect_finished_packs with:
    input:
        f"{PARTIAL}/finished.parquet",
    output:
        PARTIAL_COLLECTED,
    log:
        "results/logs/partial/collect.log",
    benchmark:
        "results/benchmarks/partial/collect.tsv"
    params:
        finished=FINISHED,
        out=lambda w: f"{PARTIAL}/collected",
    message:
        "collect finished runs"


use rule analyse_grid as analyse_finished_runs with:
    input:
        PARTIAL_COLLECTED,
    output:
        PARTIAL_TABLES,
        expand(f"{PARTIAL}/tables/{{table}}.csv", table=TABLES),
    log:
        "results/logs/partial/analyse.log",
    benchmark:
        "results/benchmarks/partial/analyse.tsv"
    params:
        finished=FINISHED,
        collected=lambda w: f"{PARTIAL}/collected",
        out=lambda w: f"{PARTIAL}/tables",
    message:
        "compute tables of finished runs"


use rule judge_claims as judge_finished_runs with:
    input:
        claims="claims.yaml",
        collected=PARTIAL_COLLECTED,
        tables=PARTIAL_TABLES,
    output:
        expand(
            f"{PARTIAL}/{{name}}",
            name=[
                "claims.csv",
                "claim_evidence.csv",
                "claims.parquet",
                "claim_evidence.parquet",
                "claims.md",
            ],
        ),
    log:
        "results/logs/partial/claims.log",
    benchmark:
        "results/benchmarks/partial/claims.tsv"
    params:
        # Theory and pretrained models are named where they are not there too: then the ledger says so.
        finished=FINISHED,
        folder=lambda w: PARTIAL,
        outdated=lambda w: outdated_option(),
    message:
        "judge claims by finished runs"


# One job for all: which figures the finished runs can fill is known only when it is known which these are.
rule draw_finished_runs:
    input:
        collected=PARTIAL_COLLECTED,
        tables=PARTIAL_TABLES,
    output:
        directory(f"{PARTIAL}/figures"),
    log:
        "results/logs/partial/figures.log",
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    params:
        spec=PLAN.grid("evaluation", adds="figure"),
        digest=code_by("figures", PLAN.grid("evaluation", adds="figure")),
        finished=FINISHED,
        folder=lambda w: PARTIAL,
    message:
        "draw figures of finished runs"
    shell:
        "nsbench stage figures --spec {params.spec:q} --digest {params.digest} {params.finished}"
        " --results {params.folder} --out {output} > {log} 2>&1"


use rule write_report as report_finished_runs with:
    input:
        figures=f"{PARTIAL}/figures",
        collected=PARTIAL_COLLECTED,
        tables=PARTIAL_TABLES,
        claims=[f"{PARTIAL}/claims.parquet", f"{PARTIAL}/claim_evidence.parquet"],
    output:
        f"{PARTIAL}/report.html",
    log:
        "results/logs/partial/report.log",
    params:
        finished=FINISHED,
        folder=lambda w: PARTIAL,
        more_figures=lambda w: fresh_figures(),
        theory=lambda w: if_fresh("theory", THEORY_TABLE, THEORY_TABLE),
        pretrained=lambda w: if_fresh("pretrained", PRETRAINED_FOLDER, PRETRAINED_FILES),
        outdated=lambda w: outdated_option(),
    message:
        "write the partial report"
