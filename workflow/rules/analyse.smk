rule collect_packs:
    input:
        history=pack_files("history.parquet"),
        runs=pack_files("runs.parquet"),
        evaluation=pack_files("evaluation.parquet"),
        floors=floor_files(),
        records=RECORD_FILES,
    output:
        history="results/collected/history.parquet",
        runs="results/collected/runs.parquet",
        evaluation="results/collected/evaluation.parquet",
        floors="results/collected/floors.parquet",
    log:
        "results/logs/collect.log",
    benchmark:
        "results/benchmarks/collect.tsv"
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        spec=PLAN.grid("runs_per_pack", "records", "text", "checkpoints", "evaluation", inputs=RECORD_FILES),
        digest=lambda w: digest("collect"),
        # Tables say of each record whether the current code made it.
        code=sorted(set().union(*PLAN.codes().values())) if RECORD_FILES else [],
        finished="",
        out=lambda w: "results/collected",
    message:
        "collect all runs"
    shell:
        "nsbench stage collect --spec {params.spec:q} --digest {params.digest} {params.finished} --packs results/packs"
        " --datasets results/datasets --out {params.out} > {log} 2>&1"


rule analyse_grid:
    input:
        COLLECTED_FILES,
    output:
        parquet=expand("results/tables/{table}.parquet", table=TABLES),
        csv=report(
            expand("results/tables/{table}.csv", table=TABLES),
            caption="../report/tables.rst",
            category="Tables",
            subcategory="Training",
        ),
    log:
        "results/logs/analyse.log",
    benchmark:
        "results/benchmarks/analyse.tsv"
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=analyse_mb,
        runtime=minutes(30),
    params:
        spec=PLAN.grid("analysis"),
        digest=code_by("analyse", PLAN.grid("analysis")),
        finished="",
        collected=lambda w: "results/collected",
        out=lambda w: "results/tables",
    message:
        "compute tables"
    shell:
        "nsbench stage analyse --spec {params.spec:q} --digest {params.digest} {params.finished}"
        " --collected {params.collected} --out {params.out} > {log} 2>&1"
