# loses: test-profiling-summarize, test-profiling-all
# Threads share a stack: an event of one becomes the child of another's.

# %% profiling-summarize
def summarize(events) -> dict[str, Row]:
    calls, total, own, stacks = Counter(), Counter(), Counter(), defaultdict(list)
    for event in sorted(events, key=lambda e: (e.start, -e.duration)):
        stack = stacks[0]
        while stack and stack[-1].end <= event.start:
            stack.pop()
        calls[event.name] += 1
        own[event.name] += event.duration
        if stack:
            own[stack[-1].name] -= event.duration
        if all(outer.name != event.name for outer in stack):
            total[event.name] += event.duration
        stack.append(event)
    return {name: Row(calls[name], total[name], own[name]) for name in calls}
