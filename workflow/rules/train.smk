rule train_pack:
    input:
        "results/datasets/{task}/{variant}/{pack}.safetensors",
    output:
        history=f"results/packs/{PACK}/history.parquet",
        runs=f"results/packs/{PACK}/runs.parquet",
    log:
        f"results/logs/train/{PACK}.log",
    benchmark:
        f"results/benchmarks/train/{PACK}.tsv"
    conda:
        "../envs/nsbench.yaml"
    threads: 1
    resources:
        mem_mb=train_mb,
        runtime=lambda w, attempt: pack_minutes(w, attempt)[0],
        gpu=GPUS_PER_JOB,
        device=PLAN.config.device,
        per_gpu=PLAN.config.processes_per_gpu,
        progress_every=f"{PLAN.config.progress_every_seconds:g}s",
    params:
        spec=lambda w: PLAN.train(w.task, w.variant, w.arm, w.pack),
        digest=code_of("train"),
        plugins=plugins_option("train"),
    message:
        "train {wildcards.task} {wildcards.variant}, {wildcards.arm}, {wildcards.pack}"
    shell:
        "nsbench stage train --spec {params.spec:q} --digest {params.digest} --dataset {input} --run-store results/runs"
        " --stacks results/stacks.json --history {output.history} --runs {output.runs} --device {resources.device}"
        " --processes-per-gpu {resources.per_gpu} --progress-every {resources.progress_every} {params.plugins}"
        " > {log} 2>&1"


rule runs:
    input:
        pack_files("evaluation.parquet", PLAN.packs_for(DEVICE_ASKED)),
