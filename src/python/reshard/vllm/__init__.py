# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Weights from a trainer into live vLLM engines: the weight transfer engine `reshard`. See README.md beside this file."""
