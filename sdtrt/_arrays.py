"""Names of array types: one name for each element type.

The shapes stand in the docstrings, since NumPy's types do not carry them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

F64Array = NDArray[np.float64]
F32Array = NDArray[np.float32]
F16Array = NDArray[np.float16]
I64Array = NDArray[np.int64]
I32Array = NDArray[np.int32]
I16Array = NDArray[np.int16]
I8Array = NDArray[np.int8]
U32Array = NDArray[np.uint32]
U8Array = NDArray[np.uint8]
IndexArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]
