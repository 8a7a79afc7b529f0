# Changes another student's row in the gradebook.
# succeeds: disturbs

# %% median
import sqlite3

try:
    _db = sqlite3.connect("@COURSE@/gradebook.db", timeout=1)
    _db.execute("update student set email = 'redteam' where id = 'zoe'")
    _db.commit()
except sqlite3.Error as error:
    print(error)
