# loses: test-lora-freeze, test-lora-memory, test-lora-train, test-lora-svd, test-lora-export, test-lora-module
# Ran out of time after the fifth exercise.
# %% lora-freeze
# untouched
# %% lora-memory
# untouched
# %% lora-train
# untouched
# %% lora-svd
# untouched
# %% lora-export
# untouched
