# SPDX-License-Identifier: Apache-2.0
"""The front for asyncio: the same commands, awaited."""
