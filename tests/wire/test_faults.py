# SPDX-License-Identifier: Apache-2.0
from purecd.wire.faults import ConnectionFault


def test_fault_carries_code_and_text():
    fault = ConnectionFault(1, "DATA on stream 0")
    assert (fault.code, fault.text, str(fault)) == (1, "DATA on stream 0", "DATA on stream 0")
