rule train_pack:
    input:
        dataset="results/datasets/{task}/{variant}/{pack}.safetensors",
        stack=stack_file,
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
    shell:
        "nsbench stage train --spec {params.spec:q} --digest {params.digest} --dataset {input.dataset} --run-store results/runs"
        " --history {output.history} --runs {output.runs} --device {resources.device}"
        " --processes-per-gpu {resources.per_gpu} --progress-every {resources.progress_every} {params.plugins}"
        " > {log} 2>&1"


if GPUS_PER_JOB:

    # Cells of a sweep fill a GPU together; the jobs of their packs find the runs finished.
    rule train_stack:
        input:
            "results/datasets/{task}/{variant}/{pack}.safetensors",
        output:
            touch(f"results/stacks/{STACK}.trained"),
        log:
            f"results/logs/train_stack/{STACK}.log",
        benchmark:
            f"results/benchmarks/train_stack/{STACK}.tsv"
        conda:
            "../envs/nsbench.yaml"
        threads: 1
        resources:
            mem_mb=stack_mb,
            runtime=stack_minutes,
            gpu=GPUS_PER_JOB,
            device=PLAN.config.device,
            per_gpu=PLAN.config.processes_per_gpu,
            progress_every=f"{PLAN.config.progress_every_seconds:g}s",
        params:
            spec=lambda w: PLAN.train_stack(w.task, w.variant, w.pack, w.stack),
            digest=code_of("train"),
            plugins=plugins_option("train"),
        shell:
            "nsbench stage train-stack --spec {params.spec:q} --digest {params.digest} --dataset {input}"
            " --run-store results/runs --device {resources.device} --processes-per-gpu {resources.per_gpu}"
            " --progress-every {resources.progress_every} {params.plugins} > {log} 2>&1"


rule runs:
    input:
        pack_files("evaluation.parquet", PLAN.packs_for(DEVICE_ASKED)),
