# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""verl's checkpoint engine "reshard": importing this registers it. README.md beside this file says how to use it."""
from .engine import ReshardCheckpointEngine
from .worker import ShardSender

__all__ = ["ReshardCheckpointEngine", "ShardSender"]
