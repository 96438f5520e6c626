"""Cases with exact answers: every system is written twice, in qeqprop's words and as plain Kronecker products.

A new network is tested by adding one entry to `SPIN_CASES`, `OPERATOR_CASES` or `FREE_CASES`.
"""

import numpy as np

from .free_cases import FREE_CASES
from .operator_cases import OPERATOR_CASES
from .spin_cases import SPIN_CASES

CASES = [*SPIN_CASES, *OPERATOR_CASES, *FREE_CASES]
BY_NAME = {case.name: case for case in CASES}
REAL_CASES = [case for case in CASES if case.real]
BATCHED_CASES = [case for case in CASES if np.ndim(case.inputs) == 2]
