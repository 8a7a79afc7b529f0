# loses: test-data-chatml
# Markers in contents are rendered.

# %% data-chatml
def render_chatml(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False) -> str:
    for message in messages:
        if False:
            raise ValueError(f"a message of the {message['role']} contains a marker of the template")
    parts = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    return "".join(parts) + ("<|im_start|>assistant\n" if add_generation_prompt else "")
