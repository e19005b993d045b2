"""Faithfulness: how well maps foretell what the model does when the picture changes.

Room for a measure: a file with a frozen configuration (and its task, where no other has one like it), and its name in
`MEASURES`. No loops over rows here: the engine owns them.
"""

from fastxai.faithfulness.base import MEASURES, REPORTED, AgainMeasure, Measure, RowMeasure, Value, as_measures
from fastxai.faithfulness.curves import Aopc, Deletion, Insertion
from fastxai.faithfulness.infidelity import Infidelity
from fastxai.faithfulness.mu_fidelity import MuFidelity
from fastxai.faithfulness.sanity import Sanity
from fastxai.faithfulness.sensitivity_n import SensitivityN
from fastxai.faithfulness.stability import Stability
from fastxai.faithfulness.table import Faithfulness

__all__ = [
    "MEASURES",
    "REPORTED",
    "AgainMeasure",
    "Aopc",
    "Deletion",
    "Faithfulness",
    "Infidelity",
    "Insertion",
    "Measure",
    "MuFidelity",
    "RowMeasure",
    "Sanity",
    "SensitivityN",
    "Stability",
    "Value",
    "as_measures",
]
