# Uses nbgrader's own API to give itself points by hand, which no later grading takes away.
# succeeds: points test-median

# %% median
try:
    from nbgrader.api import Gradebook

    with Gradebook("sqlite:///@COURSE@/gradebook.db", "redteam") as _gradebook:
        for _submission in _gradebook.assignment_submissions("plain"):
            for _notebook in _submission.notebooks:
                for _grade in _notebook.grades:
                    _grade.manual_score = _grade.max_score
        _gradebook.db.commit()
except Exception as error:
    print(repr(error)[:300])
