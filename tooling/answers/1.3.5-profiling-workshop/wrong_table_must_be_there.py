# loses: test-profiling-read-nsys, test-profiling-all
# A missing table of copies is an error.

# %% profiling-read-nsys
def read_nsys(path) -> GpuReport:
    kernels, copied, spans = {}, Counter(), []
    with closing(sqlite3.connect(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "CUPTI_ACTIVITY_KIND_KERNEL" in tables:
            names = dict(db.execute("SELECT id, value FROM StringIds"))
            for key, start, end in db.execute("SELECT shortName, start, end FROM CUPTI_ACTIVITY_KIND_KERNEL"):
                calls, ns = kernels.get(names[key], (0, 0))
                kernels[names[key]] = (calls + 1, ns + end - start)
                spans.append((start, end))
        if True:
            for start, end, size, kind in db.execute("SELECT start, end, bytes, copyKind FROM CUPTI_ACTIVITY_KIND_MEMCPY"):
                copied[COPY_KINDS[kind]] += size
                spans.append((start, end))
    if not spans:
        raise ValueError(f"{path}: neither a kernel nor a copy was recorded; was the program profiled on a GPU?")
    first = latest = min(spans)[0]
    busy = gap = 0
    for start, end in sorted(spans):
        gap = max(gap, start - latest)
        busy += max(0, end - max(start, latest))
        latest = max(latest, end)
    return GpuReport(kernels, dict(copied), busy / (latest - first), gap)
