# loses: test-cupy-module
# Only NumPy and the stand-in are known; a module that joins MODULES later is not.

# %% cupy-module
def array_module(*arrays: Any) -> Any:
    found = None
    for value in arrays:
        if value is None or isinstance(value, int | float | np.number | np.bool_):
            continue
        owner = next((module for module in (np, standin) if isinstance(value, module.ndarray)), None)
        if owner is None:
            raise TypeError(f"a {type(value).__name__} is no array of a known module")
        if found not in (None, owner):
            raise TypeError(f"arrays of {found.__name__} and of {owner.__name__} in one call: move one of them")
        found = owner
    return found or np
