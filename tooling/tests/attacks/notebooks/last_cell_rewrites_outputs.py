# Hands in a test that carries the outputs of a passed run, and stops the kernel before it gets there.
# succeeds: points test-is_prime

# %% make
for _cell in notebook["cells"]:
    if _cell["metadata"].get("nbgrader", {}).get("grade_id") == "test-is_prime":
        _cell["outputs"] = [{"output_type": "execute_result", "execution_count": 3, "data": {"text/plain": "4"}, "metadata": {}}]

# %% is_prime
import os

os._exit(0)
