# loses: test-gguf-modelfile
# An empty system message is rendered too.

# %% gguf-modelfile
def modelfile(file: str, system: str, stops: Sequence[str], context: int) -> str:
    if '"""' in system or system.endswith('"') or any('"' in stop or "\n" in stop for stop in stops):
        raise ValueError("a text that ends its own quotes")
    if context < 1:
        raise ValueError(f"context must be at least 1, not {context}")

    def message(role: str, content: str) -> str:
        return "<|im_start|>" + role + "\n{{ " + content + " }}<|im_end|>\n"

    template = message("system", ".System")
    template += "{{ if .Prompt }}" + message("user", ".Prompt") + "{{ end }}" + message("assistant", ".Response")
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""', f"PARAMETER num_ctx {context}"]
    lines += [f'SYSTEM """{system}"""'] if system else []
    return "\n".join(lines + [f'PARAMETER stop "{stop}"' for stop in stops]) + "\n"
