# Tests of its own: unittest, doctest, assertions of numpy's.

# %% first
import doctest
import unittest


def double(x):
    """Twice x.

    >>> double(2)
    4
    """
    return 2 * x


class DoubleTest(unittest.TestCase):
    def setUp(self):
        self.values = [1, 2]

    def test_values(self):
        self.assertEqual([double(v) for v in self.values], [2, 4])
        self.assertAlmostEqual(double(0.1), 0.2)
        with self.assertRaises(TypeError):
            double(None)


unittest.main(argv=["x"], exit=False, verbosity=0)
doctest.run_docstring_examples(double, globals())
import numpy as np

np.testing.assert_allclose([double(0.5)], [1.0])
try:
    np.testing.assert_array_equal([1], [2])
except AssertionError as error:
    print("as it should:", str(error).splitlines()[1])
