# loses: test-RunningMean
# All instances share one list.

# %% RunningMean
class RunningMean:
    values = []

    def add(self, value):
        self.values.append(value)

    def value(self):
        return sum(self.values) / len(self.values)
