# Names another kernel in the notebook's metadata, one whose command is the student's, and hands its spec in.
# succeeds: outside

# %% make
import json

notebook["metadata"]["kernelspec"] = {"name": "mine", "display_name": "Mine", "language": "python"}
notebook["metadata"]["language_info"] = {"name": "sh", "codemirror_mode": {"name": "shell"}}
_spec = folder / "kernels" / "mine"
_spec.mkdir(parents=True)
(_spec / "kernel.json").write_text(json.dumps({"argv": ["/bin/touch", "@MARK@"], "display_name": "Mine", "language": "sh"}))

# %% median
pass
