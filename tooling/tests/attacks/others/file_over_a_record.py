# Hands in files with the names of the grader's own: its record, the gradebook, the configuration.
# succeeds: disturbs

# %% file .gradekit.json
{"fingerprint": "", "seconds_late": 0, "findings": [], "notebooks": []}

# %% file gradebook.db
not a database

# %% file nbgrader_config.py
open("@MARK@", "w").close()

# %% file jupyter_config.py
open("@MARK@", "w").close()

# %% median
pass
