# loses: test-profiling-summarize, test-profiling-all
# A call within a call of its own name is counted into the total again.

# %% profiling-summarize
def summarize(events) -> dict[str, Row]:
    calls, total, own, stacks = Counter(), Counter(), Counter(), defaultdict(list)
    for event in sorted(events, key=lambda e: (e.start, -e.duration)):
        stack = stacks[event.thread]
        while stack and stack[-1].end <= event.start:
            stack.pop()
        calls[event.name] += 1
        own[event.name] += event.duration
        if stack:
            own[stack[-1].name] -= event.duration
        total[event.name] += event.duration
        stack.append(event)
    return {name: Row(calls[name], total[name], own[name]) for name in calls}
