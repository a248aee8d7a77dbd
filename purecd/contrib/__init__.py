# SPDX-License-Identifier: Apache-2.0
"""Adapters to other packages, each loaded only when it is used."""
