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
        "results/claims.txt",
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
        spec=PLAN.grid("analysis"),
        digest=lambda w: digest("claims"),
        finished="",
        outdated="",
        theory=lambda w, input: f"--theory {input.theory}" if input.theory else "",
        pretrained=lambda w, input: f"--pretrained {input.pretrained}" if input.pretrained else "",
    shell:
        "nsbench claims --claims {input.claims} --spec {params.spec:q} --digest {params.digest} {params.finished}"
        " --collected {input.collected} --tables {input.tables} {params.theory} {params.pretrained} {params.outdated}"
        " --out {output} > {log} 2>&1"
