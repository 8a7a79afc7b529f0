# Writes full marks into the gradebook with SQL.
# succeeds: points test-median test-softmax
# stock: resists: nbgrader writes this submission's marks after the kernel has ended; what it changes is another's

# %% median
import sqlite3

try:
    _db = sqlite3.connect("@COURSE@/gradebook.db", timeout=1)
    _db.execute("update grade set manual_score = 9 where cell_id in (select id from grade_cells)")
    _db.commit()
except sqlite3.Error as error:
    print(error)
