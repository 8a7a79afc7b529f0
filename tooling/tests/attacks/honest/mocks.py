# Replaces things of its own, and puts them back.

# %% first
from unittest import mock


class Sensor:
    def read(self):
        return 7


def report(sensor):
    return f"{sensor.read()} degrees"


with mock.patch.object(Sensor, "read", return_value=3) as fake:
    assert report(Sensor()) == "3 degrees"
    fake.assert_called_once()
Sensor.read = lambda self: 8
Sensor.__repr__ = lambda self: "a sensor"
_sensor = Sensor()
_sensor.read = lambda: 9
report.calls = 0
print(report(_sensor), _sensor, report(mock.Mock(read=lambda: 1)))
