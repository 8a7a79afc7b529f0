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
    readiness,
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

#: What an ungraded readiness notebook has to pass instead.
READINESS_GATES = readiness.GATES
