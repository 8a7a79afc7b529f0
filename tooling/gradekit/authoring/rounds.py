"""Repeat a test with other fresh inputs each time: what an answer earns must not be a matter of luck."""

from __future__ import annotations

import ast
import json

from gradekit.grading.judge import number

#: Fixes the seeds that hidden tests draw, as the n-th round of a `repeated` test has them.
_KNOWN = """
def _gradekit_known_seeds(number):
    import random
    from labkit import checking

    chance = random.Random(number)
    checking.secret_seed = lambda: chance.getrandbits(32)
"""
_REPEAT = '''
def _gradekit_repeat(source, rounds, seconds):
    import ast, json, time
    from labkit import checking

    tree = ast.parse(get_ipython().transform_cell(source))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else ast.Expr(ast.Constant(None))
    body, last = compile(tree, "<test>", "exec"), compile(ast.Expression(last.value), "<test>", "eval")
    own, said, start = checking.secret_seed, [], time.perf_counter()
    try:
        for number in range(rounds):
            if said and time.perf_counter() - start > seconds:
                break
            _gradekit_known_seeds(number)
            try:
                exec(body, globals())
                value = eval(last, globals())
                said.append([None, None if value is None else repr(value)])
            except Exception as error:
                said.append([type(error).__name__ + ": " + str(error)[:500], None])
    finally:
        checking.secret_seed = own
    return json.dumps(said)
'''


def known_seeds() -> str:
    """A step after which `labkit.checking.secret_seed` gives the numbers of ``random.Random(0)``."""
    return f"{_KNOWN}\n_gradekit_known_seeds(0)"


def repeated(source: str, rounds: int, seconds: float) -> str:
    """A step that runs a test's source ``rounds`` times, or until ``seconds`` have passed, under known seeds.

    Each round stands for a grading: the n-th one, from 0, gives `labkit.checking.secret_seed` the numbers of
    ``random.Random(n)``, so that what was found can be seen again.
    """
    return f"{_KNOWN}{_REPEAT}\n_gradekit_repeat({source!r}, {rounds}, {seconds})"


def outcomes(text: str, points: float) -> list[tuple[float | None, str]]:
    """Points and reason of each round, from what a `repeated` step showed; no points where they cannot be told."""
    try:
        said = json.loads(ast.literal_eval(text))
    except (ValueError, SyntaxError):  # the step itself ended with an error
        return [(None, text)]
    return [_outcome(error, value, points) for error, value in said]


def _outcome(error: str | None, value: str | None, points: float) -> tuple[float | None, str]:
    if error is not None:
        return 0.0, error
    if value is None:
        return points, ""
    score = number(value)
    return (score, "") if score is not None and 0 <= score <= points else (None, f"the last expression shows {value}")
