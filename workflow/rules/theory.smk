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
        runtime=minutes(60),
        gpu=GPUS_PER_JOB,
        device=PLAN.config.device,
        per_gpu=PLAN.config.processes_per_gpu,
    params:
        spec=lambda w: PLAN.experiment(w.experiment),
        digest=lambda w: digest("simulate", w.experiment),
    message:
        "simulate {wildcards.experiment}"
    shell:
        "nsbench stage simulate --spec {params.spec:q} --digest {params.digest} --points {output.points}"
        " --examples {output.examples} --device {resources.device} --processes-per-gpu {resources.per_gpu}"
        " > {log} 2>&1"


rule compute_theory:
    input:
        expand("results/theory/{experiment}.points.parquet", experiment=EXPERIMENTS),
    output:
        expand("results/theory/{experiment}.curves.parquet", experiment=EXPERIMENTS),
        table="results/tables/theory.parquet",
        csv=report(
            "results/tables/theory.csv",
            caption="../report/theory_table.rst",
            category="Tables",
            subcategory="Theory",
        ),
    log:
        "results/logs/theory/table.log",
    benchmark:
        "results/benchmarks/theory/table.tsv"
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        spec=lambda w: PLAN.theory(),
        digest=lambda w: digest("theory"),
    message:
        "compute the theory"
    shell:
        "nsbench stage theory --spec {params.spec:q} --digest {params.digest} --theory results/theory"
        " --table {output.table} --csv {output.csv} > {log} 2>&1"
