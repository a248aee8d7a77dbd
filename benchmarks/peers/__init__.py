# SPDX-License-Identifier: Apache-2.0
"""One program per client: it runs in that client's own environment and is told what to do."""
