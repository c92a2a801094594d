rule collect_packs:
    input:
        history=pack_files("history.parquet"),
        runs=pack_files("runs.parquet"),
        evaluation=pack_files("evaluation.parquet"),
    output:
        history="results/collected/history.parquet",
        runs="results/collected/runs.parquet",
        evaluation="results/collected/evaluation.parquet",
    log:
        "results/logs/collect.log",
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        spec=PLAN.grid(),
        digest=digest("collect"),
    shell:
        "nsbench collect --spec {params.spec:q} --digest {params.digest} --packs {input.runs}"
        " --out {output} > {log} 2>&1"


rule analyse_grid:
    input:
        history="results/collected/history.parquet",
        runs="results/collected/runs.parquet",
    output:
        "results/tables/time_to_target.parquet",
        "results/tables/time_to_target.csv",
        "results/tables/cells.parquet",
        "results/tables/cells.csv",
        "results/tables/paired_effect.parquet",
        "results/tables/paired_effect.csv",
    log:
        "results/logs/analyse.log",
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        spec=PLAN.grid("analysis"),
        digest=digest("analyse"),
    shell:
        "nsbench analyse --spec {params.spec:q} --digest {params.digest} --collected {input}"
        " --out {output} > {log} 2>&1"
