# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks have in common: worker processes, alternating rounds, tables, charts."""
