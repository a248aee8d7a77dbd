# SPDX-License-Identifier: Apache-2.0
"""An etcd in memory, for tests, examples and places without the real program; no replacement for it."""
