# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""reshard for PyTorch: modules and DTensors as sources and destinations, process groups as comms.

    reshard.torch.sync(trainer_module, server_state)          one call; plans when what the ranks hold has changed

    comm = reshard.torch.comm()                               or bound once, with groups as they arrive:
    session = reshard.torch.session(trainer_module, server_state, comm)
    for layer in session.run(stream=torch.cuda.current_stream()): ...

Tested with torch 2.13.0 (CPU build; gloo). Device memory is handed on with its stream and has not been run.
"""
from ._pieces import Held, Local, Piece, held_of, layer_of, local_layout
from ._sync import Syncer, close, comm, held, layout, session, sync

__all__ = ["Held", "Local", "Piece", "Syncer", "close", "comm", "held", "held_of", "layer_of", "layout", "local_layout",
           "session", "sync"]
