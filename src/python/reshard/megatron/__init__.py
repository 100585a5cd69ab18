# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Megatron-Core models as sides of a transfer. README.md beside this file says how, and what is refused."""
from .layout import Side, local_layout, side
from .metadata import Description, Piece, describe
from .names import CheckpointNames, MegatronNames
from .refit import Refit, refit

__all__ = ["CheckpointNames", "Description", "MegatronNames", "Piece", "Refit", "Side", "describe", "local_layout",
           "refit", "side"]
