rule make_dataset:
    output:
        "results/datasets/{task}/{variant}/{pack}.safetensors",
    log:
        "results/logs/dataset/{task}/{variant}/{pack}.log",
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=lambda w: PLAN.dataset(w.task, w.variant, w.pack),
        digest=lambda w: digest("dataset", w.task),
    shell:
        "nsbench dataset --spec {params.spec:q} --digest {params.digest} --out {output} > {log} 2>&1"
