"""The gates of ``gradekit check``: one rule, one file, for a defect that courses are known to have had."""

from gradekit.authoring.gates import (
    bank,
    cost,
    examples,
    form,
    imports,
    insights,
    markers,
    mutants,
    network,
    reference,
    trivial,
    untouched,
)

GATES = tuple(
    module.GATE
    for module in (
        form,
        markers,
        reference,
        untouched,
        bank,
        trivial,
        mutants,
        cost,
        examples,
        insights,
        imports,
        network,
    )
)
