"""Hidden regions and the checks named in them."""

from __future__ import annotations

from gradekit.hidden_tests import Check, regions
from traitlets.config import Config

CELL = """\
assert f(1)
### BEGIN HIDDEN TESTS
# check: zero
# hint: what is f of nothing?
assert f(0)

# check: large numbers
# a remark
assert f(10**9)
### END HIDDEN TESTS
assert f(2)
    ### BEGIN HIDDEN TESTS
    assert f(3)
    # check:named at last
    #hint:  and hinted
    ### END HIDDEN TESTS"""


def test_each_check_runs_to_the_next_one_or_to_the_end_of_its_region() -> None:
    first, second = regions(CELL)
    assert (first.first, first.last) == (2, 10)
    assert first.checks == (Check("zero", "what is f of nothing?", 3, 6), Check("large numbers", "", 7, 9))
    assert (second.first, second.last) == (12, 16)
    assert second.checks == (Check("", "", 13, 13), Check("named at last", "and hinted", 14, 15))


def test_a_region_may_be_empty_open_or_marked_otherwise() -> None:
    assert regions("x = 1") == []
    (empty,) = regions("### BEGIN HIDDEN TESTS\n# only a remark\n### END HIDDEN TESTS")
    assert (empty.first, empty.last, empty.checks) == (1, 3, ())
    (last,) = regions("x = 1\n### BEGIN HIDDEN TESTS\nassert f(4)")
    assert (last.first, last.last, last.checks) == (2, 3, (Check("", "", 3, 3),))
    config = Config({"ClearHiddenTests": {"begin_test_delimeter": "VERBORGEN", "end_test_delimeter": "OFFEN"}})
    assert [region.first for region in regions("# VERBORGEN\nassert f(1)\n# OFFEN", config)] == [1]
