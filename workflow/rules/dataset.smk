rule fetch_text:
    output:
        "results/text.parquet",
    log:
        "results/logs/text.log",
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(30),
    params:
        spec=TEXT_SPEC,
        digest=lambda w: digest("text"),
    message:
        "fetch the text"
    shell:
        "nsbench stage text --spec {params.spec:q} --digest {params.digest} --out {output} > {log} 2>&1"


rule make_dataset:
    input:
        text=lambda w: ["results/text.parquet"] if TASKS[w.task].from_text else [],
    output:
        data="results/datasets/{task}/{variant}/{pack}.safetensors",
        floors="results/datasets/{task}/{variant}/{pack}.floors.parquet",
    log:
        "results/logs/dataset/{task}/{variant}/{pack}.log",
    benchmark:
        "results/benchmarks/dataset/{task}/{variant}/{pack}.tsv"
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(2000),
        runtime=minutes(2, in_one=20),
        dataset_makers=1,
    params:
        spec=lambda w: PLAN.dataset(w.task, w.variant, w.pack),
        digest=code_of("dataset"),
        plugins=plugins_option("dataset"),
        text=lambda w, input: f"--text {input.text}" if input.text else "",
    message:
        "make data of {wildcards.task} {wildcards.variant}, {wildcards.pack}"
    shell:
        "nsbench stage dataset --spec {params.spec:q} --digest {params.digest} {params.text} --out {output.data}"
        " --floors {output.floors} {params.plugins} > {log} 2>&1"
