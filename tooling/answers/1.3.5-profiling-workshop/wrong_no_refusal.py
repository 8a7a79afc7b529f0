# loses: test-profiling-record, test-profiling-all
# Zero steps make an empty trace, and nobody complains.

# %% profiling-record
def record(step, steps: int, path) -> None:
    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(steps):
            with record_function("step"):
                step()
    profiler.export_chrome_trace(str(path))
