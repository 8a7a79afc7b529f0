# loses: test-profiling-record, test-profiling-diagnose, test-profiling-all
# One mark stands around all steps, so nothing can be counted for each step.

# %% profiling-record
def record(step, steps: int, path) -> None:
    if steps < 1:
        raise ValueError(f"at least one step is recorded, not {steps}")
    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler, record_function("step"):
        for _ in range(steps):
            step()
    profiler.export_chrome_trace(str(path))
