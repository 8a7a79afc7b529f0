# loses: test-gguf-value
# All integers are read as signed.

# %% gguf-value
def read_value(cursor: Cursor, kind: int) -> Any:
    codes = dict(enumerate("bbhhiif?")) | dict(enumerate("Qqd", 10))
    if kind == 8:
        return cursor.take(cursor.number("Q")).decode()
    if kind == 9:
        inner, count = cursor.number("I"), cursor.number("Q")
        if inner == 9:
            raise ValueError("a nested array")
        return [read_value(cursor, inner) for _ in range(count)]
    if kind not in codes:
        raise ValueError(f"unknown value type {kind}")
    return cursor.number(codes[kind])
