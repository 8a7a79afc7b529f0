# Makes the points of a cell in the gradebook larger for everybody.
# succeeds: disturbs

# %% median
import sqlite3

try:
    _db = sqlite3.connect("@COURSE@/gradebook.db", timeout=1)
    _db.execute("insert into student (id) values ('redteam')")
    _db.commit()
except sqlite3.Error as error:
    print(error)
