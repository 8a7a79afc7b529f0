# loses: test-profiling-record, test-profiling-all
# The first step is recorded: allocation and initialisation look like the hottest spot.

# %% profiling-record
def record(step, steps: int, path) -> None:
    if steps < 1:
        raise ValueError(f"at least one step is recorded, not {steps}")
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(steps):
            with record_function("step"):
                step()
    profiler.export_chrome_trace(str(path))
