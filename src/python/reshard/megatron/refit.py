# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""One Megatron model's weights into another's parameters, in place, as often as new ones come."""
from __future__ import annotations

from typing import Any

import reshard

from .layout import side
from .names import MegatronNames


class Refit:
    """Planned and bound once; `run` moves the values. Collective over all ranks of the comm.

    src_model, dst_model: GPTModel, a list of chunks of a virtual pipeline, wrapped or not; None on a rank that has no part
    in that side. Both may differ in every parallel size, in how experts are kept, and in dtype. vocab_size: rows of the
    vocabulary without padding; needed where the two sides are padded to different sizes, whose padding then becomes zero.
    machine, options: as reshard.plan takes them. timeout: seconds, for each of the exchanges with the other ranks.

    Raises reshard.NotSupported, naming the parameter, for what Megatron does not describe; reshard.LayoutMismatch for
    models that are not the same, reshard.NotCovered where no source has an element.
    """

    def __init__(self, src_model: Any, dst_model: Any, comm: reshard.Comm, *, vocab_size: int | None = None,
                 machine: reshard.Machine | None = None, timeout: float = 60.0, **options: Any):
        self._src = side(src_model, comm, MegatronNames(vocab_size), timeout)
        self._dst = side(dst_model, comm, MegatronNames(vocab_size), timeout)
        self.plan = reshard.plan(self._src.layout, self._dst.layout, machine, **options)
        self.session = reshard.Session(self.plan, comm, self._src.buffers, self._dst.buffers, timeout=timeout)

    def run(self, stream: Any = None, timeout: float = 60.0) -> reshard.Run:
        """Starts a run; every rank must. The Run gives the groups (layers, from 0: what comes before the first) as they
        are complete here, or call its finish().

        Raises reshard.InvalidState, naming the parameter, where one has moved since it was bound; the other ranks are told
        (reshard.Abandoned). All ranks then make another Refit.
        """
        try:
            self._src.check_unmoved()
            self._dst.check_unmoved()
        except reshard.InvalidState:
            self.session.run(stream, timeout)
            self.session.close()  # in the middle of the run: peers hear of it
            raise
        return self.session.run(stream, timeout)

    def close(self) -> None:
        """Frees the binding; the models stay as they are."""
        self.session.close()


def refit(src_model: Any, dst_model: Any, comm: reshard.Comm, **options: Any) -> None:
    """The one-call form: Refit(...).run().finish(). Collective. Keep a Refit where weights come more than once."""
    once = Refit(src_model, dst_model, comm, **options)
    try:
        once.run().finish()
    finally:
        once.close()
