# loses: test-profiling-record, test-profiling-all
# There is a warm-up, but inside the profiler: it is in the trace, without a mark.

# %% profiling-record
def record(step, steps: int, path) -> None:
    if steps < 1:
        raise ValueError(f"at least one step is recorded, not {steps}")
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        step()
        for _ in range(steps):
            with record_function("step"):
                step()
    profiler.export_chrome_trace(str(path))
