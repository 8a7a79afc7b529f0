# loses: test-profiling-diagnose, test-profiling-all
# Evidence is not divided by the number of steps: a longer trace makes a worse loop.

# %% profiling-diagnose
def diagnose(events) -> dict[str, float]:
    marks = [e for e in events if e.kind == "user_annotation"]
    steps = [e for e in marks if e.name == "step"]
    if not steps:
        raise ValueError("no annotation called 'step' in this trace: was it made by record()?")
    spans = {name: [m for m in marks if m.name == name] for name in ("data", "forward")}
    operators = [e for e in events if e.kind == "cpu_op" and any(within(e, step) for step in steps)]
    counts, calls, last = Counter(), Counter(), Counter()
    for e in sorted(operators, key=lambda e: (e.start, -e.duration)):
        outer = e.start >= last[e.thread]
        last[e.thread] = e.end if outer else last[e.thread]
        data, forward = (any(within(e, span) for span in spans[name]) for name in spans)
        counts["sync"] += outer and e.name in ("aten::item", "aten::is_nonzero")
        counts["preprocessing"] += data and outer
        counts["float64"] += forward and outer and any(t == "double" and s for t, s in zip(e.types, e.shapes, strict=True))
        counts["copies"] += forward and e.name == "aten::clone"
        counts["constant"] += forward and outer and e.name == "aten::arange"
        calls[e.name, e.shapes] += forward and outer
    counts["rows"] = max(calls.values(), default=0)
    found = {name: float(count) for name, count in counts.items()}
    return {name: count for name, count in found.items() if count > {"preprocessing": 16, "rows": 8}.get(name, 0)}
