#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""examples/rl_loop, which checks itself, with engines that are started quickly (vllm_models.start_quickly)."""
import sys
import tempfile

import vllm_models

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        vllm_models.prepare(folder)
        sys.path.insert(0, str(vllm_models.ROOT / "examples/rl_loop"))
        vllm_models.start_quickly()
        import main
        sys.argv = ["main.py", "3"]
        sys.exit(main.main())
