# loses: test-gguf-write
# The file is opened before the tensors were looked at.

# %% gguf-write
def write_gguf(path: Path, fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray], kind: str) -> None:
    numbers = {"F32": 0, "F16": 1, "Q8_0": 7}
    if kind not in numbers:
        raise ValueError(f"kind is F32, F16 or Q8_0, not {kind!r}")
    path.write_bytes(b"")
    ready = {}
    for name, x in tensors.items():
        if x.ndim == 1 or kind == "F32":
            ready[name] = (np.ascontiguousarray(x), None)
        elif kind == "Q8_0" and x.shape[-1] % 32 == 0:
            ready[name] = (quantize_q8_0(x), gguf.GGMLQuantizationType.Q8_0)
        elif (np.abs(x) <= 65504).all():
            ready[name] = (x.astype(np.float16, order="C"), None)
        else:
            raise ValueError(f"{name} has a value that float16 cannot hold")
    writer = gguf.GGUFWriter(path, fields["general.architecture"])
    adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in fields.items():
        if key != "general.architecture":
            adders.get(type(value), writer.add_array)(key, value)
    writer.add_file_type(numbers[kind])
    writer.add_quantization_version(2)
    for name, (x, raw) in ready.items():
        writer.add_tensor(name, x, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
