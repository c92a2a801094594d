rule simulate_theory:
    output:
        points="results/theory/{experiment}.points.parquet",
        examples="results/theory/{experiment}.examples.parquet",
    log:
        "results/logs/theory/{experiment}.log",
    benchmark:
        "results/benchmarks/theory/{experiment}.tsv"
    conda:
        "../envs/nsbench.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(60, in_one=2),
        gpu=GPUS_PER_JOB,
        device=PLAN.config.device,
        per_gpu=PLAN.config.processes_per_gpu,
        max_values=PLAN.config.theory.max_values,
    params:
        spec=lambda w: PLAN.experiment(w.experiment),
        digest=lambda w: digest("simulate", w.experiment),
    message:
        "simulate {wildcards.experiment}"
    shell:
        "nsbench stage simulate --spec {params.spec:q} --digest {params.digest} --max-values {resources.max_values}"
        " --points {output.points} --examples {output.examples} --device {resources.device}"
        " --processes-per-gpu {resources.per_gpu} > {log} 2>&1"


rule compute_theory:
    input:
        "results/theory/{experiment}.points.parquet",
    output:
        curves="results/theory/{experiment}.curves.parquet",
        table="results/theory/{experiment}.table.parquet",
    log:
        "results/logs/theory/{experiment}.curves.log",
    benchmark:
        "results/benchmarks/theory/{experiment}.curves.tsv"
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30, in_one=2),
    params:
        spec=lambda w: PLAN.experiment(w.experiment),
        digest=lambda w: digest("theory"),
    message:
        "compute the theory of {wildcards.experiment}"
    shell:
        "nsbench stage theory --spec {params.spec:q} --digest {params.digest} --points {input} --curves {output.curves}"
        " --table {output.table} > {log} 2>&1"


rule join_theory:
    input:
        expand("results/theory/{experiment}.table.parquet", experiment=EXPERIMENTS),
    output:
        table="results/tables/theory.parquet",
        csv=report(
            "results/tables/theory.csv",
            caption="../report/theory_table.rst",
            category="Tables",
            subcategory="Theory",
        ),
    log:
        "results/logs/theory/table.log",
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        spec="{}",
        digest=lambda w: digest("theory"),
    message:
        "join tables of the theory"
    shell:
        "nsbench stage theory-table --spec {params.spec:q} --digest {params.digest} --tables {input} --out {output.table}"
        " --csv {output.csv} > {log} 2>&1"
