# loses: test-profiling-record, test-profiling-all
# Without record_shapes the trace has neither shapes nor dtypes.

# %% profiling-record
def record(step, steps: int, path) -> None:
    if steps < 1:
        raise ValueError(f"at least one step is recorded, not {steps}")
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            with record_function("step"):
                step()
    profiler.export_chrome_trace(str(path))
