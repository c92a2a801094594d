rule evaluate_pack:
    input:
        runs=f"results/packs/{PACK}/runs.parquet",
        dataset="results/datasets/{task}/{variant}/{pack}.safetensors",
    output:
        f"results/packs/{PACK}/evaluation.parquet",
    log:
        f"results/logs/evaluate/{PACK}.log",
    benchmark:
        f"results/benchmarks/evaluate/{PACK}.tsv"
    # Before more is trained: a run is finished, and can be exported, once it is measured.
    priority: 1
    conda:
        "../envs/nsbench.yaml"
    threads: 1
    resources:
        mem_mb=evaluate_mb,
        runtime=lambda w, attempt: pack_minutes(w, attempt)[1],
        gpu=GPUS_PER_JOB,
        device=PLAN.config.device,
        per_gpu=PLAN.config.processes_per_gpu,
    params:
        spec=lambda w: PLAN.evaluate(w.task, w.variant, w.arm, w.pack),
        digest=code_of("evaluate"),
        plugins=plugins_option("evaluate"),
    message:
        "evaluate {wildcards.task} {wildcards.variant}, {wildcards.arm}, {wildcards.pack}"
    shell:
        "nsbench stage evaluate --spec {params.spec:q} --digest {params.digest} --runs {input.runs}"
        " --dataset {input.dataset} --run-store results/runs --out {output} --device {resources.device}"
        " --processes-per-gpu {resources.per_gpu} {params.plugins} > {log} 2>&1"
