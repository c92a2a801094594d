"""The tasks, one module each, found by name: `nsbench.data.tasks.<task>`.

A task's module has `make(data, seed) -> (tensors, vocabulary, n_classes)`: the data set of one
seed, as `nsbench.data.datasets` describes it; and `target_value(data, measure, reduction, correlation)
-> float`: what the measures give for the task's target function itself, in closed form, NaN where
none is known; and `floor_rows(tensors, n_classes)`: what tables score on the same data (`nsbench.data.baselines`).

A task of `config.variant.OF_TEXT` has `make(data, seed, text)`, with the text that its `read_text_file`
reads.
"""
