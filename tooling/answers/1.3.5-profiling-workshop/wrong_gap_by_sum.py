# loses: test-profiling-shares, test-profiling-all
# Durations of nested operators are added up, so the gap is too small.

# %% profiling-shares
def shares(events) -> dict[str, float]:
    steps = [e for e in events if e.kind == "user_annotation" and e.name == "step"]
    if not steps:
        raise ValueError("no annotation called 'step' in this trace: was it made by record()?")
    spent, busy = Counter(), 0
    for step in steps:
        inside = [e for e in events if e.thread == step.thread and step.start <= e.start and e.end <= step.end]
        last = {"user_annotation": step.start, "cpu_op": step.start}
        for event in sorted(inside, key=lambda e: (e.start, -e.duration)):
            if event == step or (event.start < last[event.kind] and event.kind != "cpu_op"):
                continue
            last[event.kind] = event.end
            if event.kind == "cpu_op":
                busy += event.duration
            else:
                spent[event.name] += event.duration
    whole = sum(step.duration for step in steps)
    return {name: time / whole for name, time in spent.items()} | {"no operator": 1 - busy / whole}
