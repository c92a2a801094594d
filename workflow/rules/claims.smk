rule judge_claims:
    input:
        claims="claims.yaml",
        collected=COLLECTED_FILES,
        tables=expand("results/tables/{table}.parquet", table=TABLES),
        theory=THEORY_TABLE,
        pretrained=PRETRAINED_FILES,
    output:
        report("results/claims.csv", caption="../report/claims.rst", category="Claims"),
        report(
            "results/claim_evidence.csv",
            caption="../report/evidence.rst",
            category="Claims",
        ),
        "results/claims.parquet",
        "results/claim_evidence.parquet",
        "results/claims.md",
    log:
        "results/logs/claims.log",
    benchmark:
        "results/benchmarks/claims.tsv"
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=analyse_mb,
        runtime=minutes(30),
    params:
        spec=PLAN.grid("analysis", adds="claim quantity", inputs=["claims.yaml"]),
        digest=code_by("claims", PLAN.grid("analysis", adds="claim quantity")),
        finished="",
        folder=lambda w: "results",
        theory=option("--theory", THEORY_TABLE),
        pretrained=option("--pretrained", PRETRAINED_FOLDER),
        outdated="",
    message:
        "judge claims"
    shell:
        "nsbench stage claims --spec {params.spec:q} --digest {params.digest} {params.finished} --claims {input.claims}"
        " --collected {params.folder}/collected --tables {params.folder}/tables {params.theory} {params.pretrained}"
        " {params.outdated} --out {params.folder} > {log} 2>&1"
