rule track_runs:
    input:
        collected=COLLECTED_FILES,
        tables="results/tables/time_to_target.parquet",
    output:
        "results/tracked.json",
    log:
        "results/logs/track.log",
    # A store that cannot be reached must not keep figures and report from being made.
    priority: -1
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60),
    params:
        spec=PLAN.grid("tracking"),
        digest=lambda w: digest("track"),
    message:
        "import runs into MLflow"
    shell:
        "nsbench stage track --spec {params.spec:q} --digest {params.digest} --collected results/collected"
        " --tables results/tables --out {output} > {log} 2>&1"
