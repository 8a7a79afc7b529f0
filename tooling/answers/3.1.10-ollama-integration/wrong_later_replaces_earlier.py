# loses: test-gguf-faults
# A key that comes twice replaces the first.

# %% gguf-header
def read_header(data: bytes) -> dict[str, Any]:
    cursor, fields, tensors = Cursor(data), {}, {}
    if cursor.take(4) != b"GGUF":
        raise ValueError("wrong magic: this is no GGUF file")
    if cursor.number("I") != 3:
        raise ValueError("a version other than 3")
    count, field_count = cursor.number("Q"), cursor.number("Q")
    for _ in range(field_count):
        key = read_value(cursor, 8)
        fields[key] = read_value(cursor, cursor.number("I"))
    for _ in range(count):
        if (name := read_value(cursor, 8)) in tensors:
            raise ValueError(f"the tensor {name!r} comes twice")
        lengths = tuple(cursor.number("Q") for _ in range(cursor.number("I")))
        tensors[name] = (lengths[::-1], cursor.number("I"), cursor.number("Q"))
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"alignment {alignment!r} is no power of two")
    start = -(-cursor.at // alignment) * alignment
    for name, (shape, kind, offset) in tensors.items():
        if kind not in (0, 1, 8):
            raise ValueError(f"{name}: unknown tensor type {kind}")
        if offset % alignment:
            raise ValueError(f"{name}: offset {offset} is no multiple of {alignment}")
        if kind == 8 and (not shape or shape[-1] % 32):
            raise ValueError(f"{name}: rows of shape {shape} are not made of blocks of 32")
        if start + offset + math.prod(shape) * {0: 128, 1: 64, 8: 34}[kind] // 32 > len(data):  # bytes of 32 values
            raise ValueError(f"truncated: the data of {name} goes on beyond the end of the file")
    return {"fields": fields, "tensors": tensors, "data_start": start}
