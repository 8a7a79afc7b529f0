# loses: test-cupy-fused keeps 2
# Only holes of x are looked for; infinity times zero makes NaN too.

# %% cupy-fused
def fused_scale(xp: Any) -> Any:
    return xp.ElementwiseKernel(
        "float32 x, float32 mean, float32 inverse, float32 limit",
        "float32 y",
        "float z = (x - mean) * inverse; y = isnan(x) ? 0.0f : fminf(fmaxf(z, -limit), limit)",
        "fused_scale",
    )
