# loses: test-profiling-summarize, test-profiling-all
# A child's time is taken off every ancestor, so own times do not add up to the outermost.

# %% profiling-summarize
def summarize(events) -> dict[str, Row]:
    calls, total, own, stacks = Counter(), Counter(), Counter(), defaultdict(list)
    for event in sorted(events, key=lambda e: (e.start, -e.duration)):
        stack = stacks[event.thread]
        while stack and stack[-1].end <= event.start:
            stack.pop()
        calls[event.name] += 1
        own[event.name] += event.duration
        for outer in stack:
            own[outer.name] -= event.duration
        if all(outer.name != event.name for outer in stack):
            total[event.name] += event.duration
        stack.append(event)
    return {name: Row(calls[name], total[name], own[name]) for name in calls}
