# The profiler's own schedule, recursion in place of a stack, painted intervals, autograd.grad, and joins in SQL.

# %% profiling-record
def record(step, steps, path):
    if not steps > 0:
        raise ValueError("no steps")
    from torch.profiler import schedule
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, schedule=schedule(wait=0, warmup=1, active=steps, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
    ) as profiler:
        step()
        profiler.step()
        for _ in range(steps):
            with torch.profiler.record_function("step"):
                step()
            profiler.step()

# %% profiling-summarize
def summarize(events):
    rows = {}

    def add(name, calls, total, own):
        before = rows.get(name, Row(0, 0, 0))
        rows[name] = Row(before.calls + calls, before.total + total, before.own + own)

    def walk(siblings, names):
        while siblings:
            first, *rest = siblings
            within = [e for e in rest if e.start < first.end]
            siblings = rest[len(within):]
            add(first.name, 1, 0 if first.name in names else first.duration, first.duration)
            edge = first.start
            for e in within:
                if e.start >= edge:
                    add(first.name, 0, 0, -e.duration)
                    edge = e.end
            walk(within, names | {first.name})

    for thread in {e.thread for e in events}:
        walk(sorted((e for e in events if e.thread == thread), key=lambda e: (e.start, -e.end)), frozenset())
    return rows

# %% profiling-shares
def merged(intervals):
    """The length of the union of intervals."""
    points = sorted([(s, 1) for s, _ in intervals] + [(e, -1) for _, e in intervals])
    depth = length = before = 0
    for at, change in points:
        length += (at - before) * (depth > 0)
        depth, before = depth + change, at
    return length


def shares(events):
    annotations = [e for e in events if e.kind == "user_annotation"]
    steps = [e for e in annotations if e.name == "step"]
    if not steps:
        raise ValueError("no step")
    whole, times, gap = sum(s.duration for s in steps), {}, 0
    for s in steps:
        mine = [e for e in events if e.thread == s.thread and e.start >= s.start and e.end <= s.end]
        marks = [e for e in mine if e.kind == "user_annotation" and e is not s]
        for e in marks:
            if not any(o is not e and o.start <= e.start and e.end <= o.end for o in marks):
                times[e.name] = times.get(e.name, 0) + e.duration
        gap += s.duration - merged([(e.start, e.end) for e in mine if e.kind == "cpu_op"])
    return {name: t / whole for name, t in times.items()} | {"no operator": gap / whole}

# %% profiling-prepare
def fast_prepare(raw, mean, std):
    return torch.empty(raw.shape, dtype=torch.float32).copy_(torch.clip((raw - mean) / std, -3, 3))

# %% profiling-fast
class Fast(Slow):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__(features, hidden, classes)
        self.register_buffer("wave", torch.sin(0.1 * torch.arange(hidden).double()).float(), persistent=False)

    def forward(self, x):
        hidden = nn.functional.linear(x, self.encoder.weight, self.encoder.bias).relu_()
        return nn.functional.linear(hidden.mul(self.wave), self.head.weight, self.head.bias)

# %% profiling-fast-train
def fast_train(model, batches, lr):
    parameters, losses = list(model.head.parameters()), torch.zeros(len(batches))
    for k, (x, labels) in enumerate(batches):
        with record_function("forward"):
            loss = nn.functional.cross_entropy(model(x), labels)
        with record_function("backward"):
            gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad(), record_function("optimizer"):
            losses[k] = loss
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= lr * gradient
    return losses.tolist()

# %% profiling-amdahl
def predicted_speedup(shares, factors):
    rest = 1 - math.fsum(shares.values())
    if rest < -1e-9 or min(factors.values(), default=1) <= 0 or any(part not in shares for part in factors):
        raise ValueError("impossible")
    new = math.fsum([max(rest, 0.0), *(share / factors.get(part, 1) for part, share in shares.items())])
    return math.inf if new == 0 else 1 / new

# %% profiling-read-nsys
def read_nsys(path):
    from itertools import pairwise
    db = sqlite3.connect(path)
    try:
        have = [name for name, in db.execute("SELECT name FROM sqlite_master")]
        kernels, copied, spans = {}, {}, []
        if "CUPTI_ACTIVITY_KIND_KERNEL" in have:
            sql = ("SELECT s.value, count(*), sum(k.end - k.start) FROM CUPTI_ACTIVITY_KIND_KERNEL k "
                   "JOIN StringIds s ON s.id = k.shortName GROUP BY s.value")
            kernels = {name: (calls, ns) for name, calls, ns in db.execute(sql)}
            spans += db.execute("SELECT start, end FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchall()
        if "CUPTI_ACTIVITY_KIND_MEMCPY" in have:
            sql = "SELECT copyKind, sum(bytes) FROM CUPTI_ACTIVITY_KIND_MEMCPY GROUP BY copyKind"
            copied = {COPY_KINDS[kind]: size for kind, size in db.execute(sql)}
            spans += db.execute("SELECT start, end FROM CUPTI_ACTIVITY_KIND_MEMCPY").fetchall()
    finally:
        db.close()
    if len(spans) == 0:
        raise ValueError("empty")
    spans.sort()
    islands = [list(spans[0])]
    for start, end in spans[1:]:
        if start <= islands[-1][1]:
            islands[-1][1] = max(islands[-1][1], end)
        else:
            islands.append([start, end])
    gaps = [b[0] - a[1] for a, b in pairwise(islands)]
    return GpuReport(kernels, copied, sum(e - s for s, e in islands) / (islands[-1][1] - islands[0][0]), max(gaps, default=0))
