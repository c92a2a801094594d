"""The report: one self-contained HTML page with the verdicts, figures, tables, rules and provenance.

Each section is a module that makes its texts, and beside it the template of the same name that lays them out: so
a template counts as its module's code in the digest of the stage.
"""
