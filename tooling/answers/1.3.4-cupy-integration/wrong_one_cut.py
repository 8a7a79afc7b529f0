# loses: test-cupy-fused, test-integration-cupy
# Only large values are cut.

# %% cupy-fused
def fused_scale(xp: Any) -> Any:
    return xp.ElementwiseKernel(
        "float32 x, float32 mean, float32 inverse, float32 limit",
        "float32 y",
        "float z = (x - mean) * inverse; y = isnan(z) ? 0.0f : fminf(z, limit)",
        "fused_scale",
    )
