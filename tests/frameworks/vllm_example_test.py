#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""examples/rl_loop, which checks itself, with engines that are started quickly (vllm_models.start_quickly). Beside what the
example says: the live parameters stay where they are."""
import sys
import tempfile

import vllm_models


def watch(server):
    """Has the example's server look at its parameters before and after the trainers' updates."""
    serve = server.Server.serve

    def watched(self, connection):
        where = self.llm.apply_model(vllm_models.pointers)
        serve(self, connection)
        assert where == self.llm.apply_model(vllm_models.pointers), "live parameters have moved"

    server.Server.serve = watched


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        vllm_models.prepare(folder)
        sys.path.insert(0, str(vllm_models.ROOT / "examples/rl_loop"))
        vllm_models.start_quickly()
        import main
        watch(main.server)
        sys.argv = ["main.py", "3"]
        sys.exit(main.main())
