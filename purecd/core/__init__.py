# SPDX-License-Identifier: Apache-2.0
"""What etcd is asked and how faults are survived, without I/O and without a clock."""
