rule draw_figure:
    input:
        figure_tables,
    output:
        png=report(
            "results/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            subcategory=lambda w: KINDS[find(w.figure)[0].kind],
            labels=lambda w: {"figure": caption(w.figure)[0]},
        ),
        pdf="results/figures/{figure}.pdf",
    log:
        "results/logs/figures/{figure}.log",
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        spec=figure_spec,
        digest=code_by("figure", PLAN.grid()),
        plugins=figure_plugin,
    message:
        "draw {wildcards.figure}"
    shell:
        "nsbench stage figure {wildcards.figure} --spec {params.spec:q} --digest {params.digest} --results results"
        " {params.plugins} --png {output.png} --pdf {output.pdf} > {log} 2>&1"


rule write_report:
    input:
        figures=expand("results/figures/{figure}.png", figure=report_figures()),
        collected=COLLECTED_FILES,
        tables=expand("results/tables/{table}.parquet", table=TABLES),
        theory=THEORY_TABLE,
        pretrained=PRETRAINED_FILES,
        claims=CLAIMS_FILES,
    output:
        report(
            "results/report.html",
            caption="../report/report.rst",
            category="The page",
            labels={"what": "the whole report"},
        ),
    log:
        "results/logs/report.log",
    localrule: True
    conda:
        "../envs/nsbench.yaml"
    resources:
        mem_mb=megabytes(4000),
        runtime=minutes(30),
    params:
        spec=PLAN.grid("evaluation", adds="figure"),
        digest=code_by("report", PLAN.grid("evaluation", adds="figure")),
        finished="",
        folder=lambda w: "results",
        more_figures="",
        theory=option("--theory", THEORY_TABLE),
        pretrained=option("--pretrained", PRETRAINED_FOLDER),
        outdated="",
    message:
        "write the report"
    shell:
        "nsbench stage report --spec {params.spec:q} --digest {params.digest} {params.finished}"
        " --figures {params.folder}/figures {params.more_figures} --collected {params.folder}/collected"
        " --tables {params.folder}/tables {params.theory} {params.pretrained} {params.outdated}"
        " --claims {params.folder} --out {output} > {log} 2>&1"
