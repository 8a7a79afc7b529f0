# loses: test-gguf-value
# An unknown type is a KeyError.

# %% gguf-value
def read_value(cursor: Cursor, kind: int) -> Any:
    codes = dict(enumerate("BbHhIif?")) | dict(enumerate("Qqd", 10))
    if kind == 8:
        return cursor.take(cursor.number("Q")).decode()
    if kind == 9:
        inner, count = cursor.number("I"), cursor.number("Q")
        if inner == 9:
            raise ValueError("a nested array")
        return [read_value(cursor, inner) for _ in range(count)]
    return cursor.number(codes[kind])
