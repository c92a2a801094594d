rule measure_model:
    input:
        text="results/text.parquet",
    output:
        expand("results/pretrained/{{model}}/{part}.parquet", part=PRETRAINED_PARTS),
    log:
        "results/logs/pretrained/{model}.log",
    benchmark:
        "results/benchmarks/pretrained/{model}.tsv"
    conda:
        "../envs/nsbench.yaml"
    threads: 1
    resources:
        mem_mb=megabytes(16000),
        runtime=minutes(480),
        gpu=GPUS_PER_JOB,
        device=PLAN.config.device,
        per_gpu=PLAN.config.processes_per_gpu,
        unreachable=PLAN.config.pretrained.unreachable,
        max_memory_gb=str(PLAN.config.pretrained.max_memory_gb),
    params:
        spec=lambda w: PLAN.pretrained(w.model),
        digest=lambda w: digest("pretrained"),
        out=lambda w: f"results/pretrained/{w.model}",
    message:
        "measure {wildcards.model}"
    shell:
        "nsbench stage pretrained --spec {params.spec:q} --digest {params.digest} --text {input.text} --out {params.out}"
        " --unreachable {resources.unreachable} --max-memory-gb {resources.max_memory_gb}"
        " --device {resources.device} --processes-per-gpu {resources.per_gpu} > {log} 2>&1"


rule join_pretrained:
    input:
        expand(
            "results/pretrained/{model}/{part}.parquet",
            model=PLAN.config.pretrained.chosen,
            part=PRETRAINED_PARTS,
        ),
    output:
        tables=expand("results/tables/{table}.parquet", table=PRETRAINED_TABLES),
        csv=report(
            expand("results/tables/{table}.csv", table=PRETRAINED_CSV),
            caption="../report/pretrained_tables.rst",
            category="Tables",
            subcategory="Pretrained models",
        ),
    log:
        "results/logs/pretrained/tables.log",
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        spec=PLAN.pretrained_tables(),
        digest=lambda w: digest("pretrained-tables"),
        models=expand("results/pretrained/{model}", model=PLAN.config.pretrained.chosen),
    message:
        "join tables of pretrained models"
    shell:
        "nsbench stage pretrained-tables --spec {params.spec:q} --digest {params.digest} --models {params.models}"
        " --out results/tables > {log} 2>&1"
