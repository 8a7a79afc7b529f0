# loses: test-cupy-fused
# A double literal makes the product a double's.

# %% cupy-fused
def fused_scale(xp: Any) -> Any:
    return xp.ElementwiseKernel(
        "float32 x, float32 mean, float32 inverse, float32 limit",
        "float32 y",
        "float z = (x - mean) * inverse * 1.0000001; y = isnan(z) ? 0.0f : fminf(fmaxf(z, -limit), limit)",
        "fused_scale",
    )
