# Reads another student's files from the folder of what was collected.
# succeeds: leak neighbour

# %% median
import glob

for _path in glob.glob("@NEIGHBOUR@/**", recursive=True) + glob.glob("../../*/*/*"):
    try:
        print(_path, open(_path).read()[:3000])
    except OSError as error:
        print(error)
