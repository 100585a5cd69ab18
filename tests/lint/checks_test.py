#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Each check finds the fault that it is there for, and keeps quiet about the file beside it."""
import pathlib
import tempfile
import unittest

import checks
import docs
import hpp
import rows

SPDX = "// SPDX-License-Identifier: Apache-2.0\n// SPDX-FileCopyrightText: The reshard authors\n"


class ChecksTest(unittest.TestCase):
    def findings(self, check, tree):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in tree.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            return [(is_error, text.split(": ")[0]) for is_error, text in checks.CHECKS[check](root)]

    def test_includes_follow_the_rooms(self):
        tree = {
            "src/layout/a.cc": '#include "src/base/status.h"\n#include "src/layout/a.h"\n',
            "src/layout/f.cc": '#include "reshard/reshard.h"\n#include <vector>\n',
            "src/layout/b.cc": '#include "src/plan/plan.h"\n',
            "src/plan/c.cc": '#include "src/layout/a.h"\n#include "topology/machine.h"\n#include "src/exec/run.h"\n',
            "src/plan/g.cc": '#include "src/plan/report/report.h"\n#include "src/plan/plan.h"\n',
            "src/plan/report/h.cc": '#include "src/plan/plan.h"\n#include "src/exec/run.h"\n',
            "src/exec/d.cc": '#include "kernels/copy_list.h"\n#include "src/model/model.h"\n',
            "kernels/e.cc": '#include "copy_list.h"\n',
            "src/layout/i.cc": '#include "reshard/layout.h"\n',
            "include/reshard/reshard.h": '#include "src/base/status.h"\n#include "reshard/layout.h"\n',
            "perf/tool.cc": '#include "perf/args.h"\n#include "src/layout/a.h"\n',
            "perf/bench_copy.cc": '#include "kernels/copy_list.h"\n#include <cuda_runtime_api.h>\n',
            "src/transport/nccl/j.cc": '#include <nccl.h>\n#include <cuda.h>\n#include "src/transport/deadline.h"\n',
            "src/transport/k.cc": '#include <ucp/api/ucp.h>\n#include <nccl.h>\n#include "src/transport/nccl/j.h"\n',
            "examples/m.c": '#include <reshard/reshard.h>\n#include "src/layout/a.h"\n',
            "include/reshard/cpp/n.hpp": '#include <reshard/reshard.h>\n#include "src/layout/a.h"\n',
            "src/device/l.cc": '#include <cuda.h>\n#include <cudaTypedefs.h>\n',
        }
        expected = ["include/reshard/reshard.h:1", "src/layout/b.cc:1", "src/plan/c.cc:3", "src/plan/g.cc:1",
                    "src/plan/report/h.cc:2", "src/transport/nccl/j.cc:2", "src/transport/k.cc:2",
                    "src/transport/k.cc:3", "examples/m.c:2",
                    "include/reshard/cpp/n.hpp:2", "src/exec/d.cc:2", "kernels/e.cc:1", "perf/tool.cc:2"]
        self.assertCountEqual(self.findings("includes", tree), [(True, place) for place in expected])

    def test_every_source_file_has_its_spdx_lines(self):
        tree = {"src/a.cc": SPDX, "src/b.cc": "int b;\n", "perf/c.sh": "#!/bin/sh\n# SPDX-License-Identifier: MIT\n"}
        self.assertCountEqual(self.findings("spdx", tree), [(True, "src/b.cc:1"), (True, "perf/c.sh:1")])

    def test_forbidden_words_are_found_where_they_are_forbidden(self):
        tree = {
            "src/a.cc": "int a;\ngoto end;\n",
            "src/b.cc": 'auto v = getenv("X");\nprintf("x");\nsnprintf(x);\n// abort()\n/* nor\n exit() */ "puts(";\n',
            "src/api/config.cc": 'auto v = getenv("X");\n',
            "perf/d.cc": 'printf("x");\n// TODO later\n// TODO(#12) later\n',
            "perf/e.sh": "cd /home/someone\nls $HOME/work/x build/work/y\n",
        }
        expected = ["src/a.cc:2", "src/b.cc:1", "src/b.cc:2", "perf/d.cc:2", "perf/e.sh:1"]
        self.assertCountEqual(self.findings("words", tree), [(True, place) for place in expected])

    def test_long_files_and_functions_are_found(self):
        def function(name, lines):
            return f"int {name}(int x) {{\n" + "  x += 1;  // {\n" * (lines - 2) + "}\n"

        tree = {
            "src/short.cc": "namespace n {\nstruct S {\n" + function("a", 59) + "};\n" + function("b", 59) + "}\n",
            "src/longer.cc": "#include <x>\n" + function("a", 60) + "\n" + function("b", 100),
            "src/file.cc": "int x;\n" * 501,
            "src/huge.cc": "int x;\n" * 801,
        }
        expected = [(False, "src/file.cc:1"), (True, "src/huge.cc:1"), (False, "src/longer.cc:2"),
                    (True, "src/longer.cc:63")]
        self.assertCountEqual(self.findings("sizes", tree), expected)


class HppTest(unittest.TestCase):
    C_API = ("RESHARD_API int reshard_a(void);\nRESHARD_API int reshard_b(int x);\nRESHARD_API void "
             "reshard_c_init_sized(int x);\n")

    def faults(self, layer):
        with tempfile.TemporaryDirectory() as folder:
            inside = pathlib.Path(folder) / "reshard"
            inside.mkdir()
            (inside / "reshard.h").write_text(self.C_API, encoding="utf-8")
            (inside / "reshard.hpp").write_text(layer, encoding="utf-8")
            return [text.split(" ")[0].rstrip(",") for text in hpp.faults(folder)]

    def test_that_what_the_layer_has_or_leaves_is_all_there_is(self):
        self.assertEqual(self.faults("/// Left to C, say: reshard_b.\n\nint x = reshard_a();\n"), [])
        self.assertEqual(self.faults("/// reshard_b\n\nint x = reshard_a();\n"), ["reshard_b"])
        self.assertEqual(self.faults("/// Left to C, say: reshard_b, reshard_d.\n\nint x = reshard_a();\n"), ["reshard_d"])
        self.assertEqual(self.faults("/// Left to C, say: reshard_a.\n\nint x = reshard_a(reshard_b(1));\n"), ["reshard_a"])


class DocsTest(unittest.TestCase):
    CONSOLE = "```console\n$ reshard_plan x\n{}\n```\n"

    def faults(self, page, output="one\n  two  2.5\nthree\n"):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder).resolve()
            tree = {"docs/page.md": page, "README.md": "# Top\n", "include/reshard/reshard.h": "int reshard_a(int x);\n",
                    "examples/e.c": "int main(void) {\n  return reshard_a(1);\n}\n",
                    "bin/reshard_plan": f"#!/bin/sh\nprintf '{output}'\n"}
            for name, text in tree.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            (root / "bin/reshard_plan").chmod(0o755)
            return len(list(docs.faults(root, root / "bin")))

    def test_that_links_lead_somewhere(self):
        self.assertEqual(self.faults("[a](../README.md) [b](../README.md#top) [c](#head) [d](https://x.y/z)\n# Head\n"), 0)
        self.assertEqual(self.faults("[a](../READ.md) [b](../README.md#down) [c](#tail)\n# Head\n"), 3)

    def test_that_names_are_declared(self):
        self.assertEqual(self.faults("`reshard_a`, reshard_plan, `reshard_*_init`\n"), 0)
        self.assertEqual(self.faults("`reshard_b`, `RESHARD_ERR_NONE`, `reshard.torch`\n"), 3)

    def test_that_quoted_code_stands_in_its_file(self):
        quote = "From [e](../examples/e.c):\n\n```c\n{}\n```\n"
        self.assertEqual(self.faults(quote.format("return   reshard_a(1);")), 0)
        self.assertEqual(self.faults(quote.format("return reshard_a(2);")), 1)

    def test_that_commands_print_what_is_shown(self):
        for shown in ("one\n...", "...\n  two  2.5\n...", "one\n...\nthree", "one\n  two  2.5\nthree",
                      "one\n  two ...\nthree"):
            self.assertEqual(self.faults(self.CONSOLE.format(shown)), 0, shown)
        for shown in ("two", "...\n  two  2.6\n...", "...\nthree\n...\none\n...", "one\nthree", "  two  2.5\n...", "one\n  two  2.5",
                      "one\n  too ...\nthree"):
            self.assertEqual(self.faults(self.CONSOLE.format(shown)), 1, shown)
        self.assertEqual(self.faults(self.CONSOLE.format("one\n..."), "one\n'; exit 3; '"), 1)


class RowsTest(unittest.TestCase):
    ROOT = pathlib.Path(__file__).resolve().parents[2]

    def faults(self, changes):
        return rows.table(changes, self.ROOT)[1]

    def test_that_rows_tell_what_fails_or_is_not_there(self):
        self.assertEqual(self.faults({}), [])
        self.assertEqual(self.faults({4: [("Row04_A", True, ["fsdp:shard=4"])]}), [])
        self.assertEqual(self.faults({4: [("Row04_A", False, [])]}), ["Row04_A fails"])
        self.assertEqual(self.faults({55: [("Row55_A", True, [])]}), ["there is no row 55"])
        self.assertFalse(rows.exists(self.ROOT, "PlanErrorTest.NoSuchTest"))
        self.assertFalse(rows.exists(self.ROOT, "tests/endtoend/none.py"))

    def test_that_few_texts_show_every_kind(self):
        self.assertEqual(rows.shown(["fsdp:shard=2", "fsdp:shard=3", "vllm:eplb=/tmp/x,tp=2", "fsdp:shard=2,dim=0"]),
                         "`fsdp:shard=2`, `vllm:eplb=FILE,tp=2`, `fsdp:shard=2,dim=0`")


if __name__ == "__main__":
    unittest.main()
