"""Is what the concepts show true? Each measurement in a module of its own, a function that gives a frozen result."""

from .kinds import MEASUREMENTS, read_measurements
from .measure import measure_concepts
from .measurement import Measurement
from .table import Table

__all__ = ["MEASUREMENTS", "Measurement", "Table", "measure_concepts", "read_measurements"]
