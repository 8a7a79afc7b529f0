# Reads the gradebook: the tests in full and everybody's marks are in it.
# succeeds: leak gradebook

# %% median
import sqlite3

try:
    for _row in sqlite3.connect("file:@COURSE@/gradebook.db?mode=ro", uri=True).execute("select * from student"):
        print(_row)
except sqlite3.Error as error:
    print(error)
