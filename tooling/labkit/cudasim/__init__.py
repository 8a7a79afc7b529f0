"""CUDA kernels on any laptop, with the bugs shown."""
from .host import enable
from .launch import run, check, profile, racecheck
