# SPDX-License-Identifier: Apache-2.0
"""The front for threads: blocking calls on sockets, no thread of its own."""
