// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Whatever a file holds, its reader ends with a cluster or a typed error with a message. Mutations of valid files; the
// seed is printed, and FUZZ_SEED=N runs that one again, FUZZ_ROUNDS=N more or fewer of them.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "tests/unit/topology/data.h"
#include "topology/read/file.h"
#include "topology/read/places.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

std::uint64_t from_environment(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string mutate(std::string text) {
    for (std::size_t i = below(4) + 1; i > 0; --i) change(&text);
    return text;
  }

 private:
  std::size_t below(std::size_t end) { return end == 0 ? 0 : random_() % end; }

  /// The range of a line, its end of line included.
  std::pair<std::size_t, std::size_t> line(const std::string& text) {
    const std::size_t inside = below(text.size());
    const std::size_t before = inside == 0 ? std::string::npos : text.rfind('\n', inside - 1);
    const std::size_t first = before == std::string::npos ? 0 : before + 1;
    const std::size_t end = text.find('\n', inside);
    return {first, (end == std::string::npos ? text.size() : end + 1) - first};
  }

  void change(std::string* text) {
    static const std::vector<std::string> kTokens = {"0",
                                                     "-1",
                                                     "18446744073709551616",
                                                     "1e99",
                                                     "[",
                                                     "]",
                                                     "{",
                                                     "}",
                                                     "\"",
                                                     "<",
                                                     ">",
                                                     "/>",
                                                     "&a",
                                                     "*a",
                                                     "- ",
                                                     ": ",
                                                     "\\\n",
                                                     "=",
                                                     ",",
                                                     "\0x",
                                                     "\xff\xfe",
                                                     "  ",
                                                     "\t",
                                                     "n[1-9]",
                                                     "null",
                                                     "<pci busid=\"x\">",
                                                     "!!"};
    if (text->empty()) return;
    const auto [first, size] = line(*text);
    switch (below(7)) {
      case 0:
        (*text)[below(text->size())] = static_cast<char>(random_());
        return;
      case 1:
        (*text)[below(text->size())] ^= static_cast<char>(1U << below(8));
        return;
      case 2:
        text->resize(below(text->size()));
        return;
      case 3:
        text->insert(first, text->substr(first, size));
        return;
      case 4:
        text->erase(first, size);
        return;
      case 5:
        text->insert(line(*text).first, text->substr(first, size));
        return;
      default:
        text->replace(below(text->size()), below(4), kTokens[below(kTokens.size())]);
    }
  }

  std::mt19937_64 random_;
};

template <typename T>
void expect_typed(const Result<T>& result) {
  if (result.ok()) return;
  const reshard_status_t code = result.status().code();
  EXPECT_TRUE(code == RESHARD_ERR_INVALID_ARGUMENT || code == RESHARD_ERR_IO) << code;
  EXPECT_GT(result.status().message().size(), 10U);
  EXPECT_LT(result.status().message().size(), 2000U);
}

/// A cluster that was read makes a machine or says why not.
void expect_machine(const Result<ClusterSpec>& spec) {
  expect_typed(spec);
  if (!spec.ok()) return;
  const Result<Machine> machine = make_machine(*spec, {7, 3});
  expect_typed(machine);
  if (machine.ok()) {
    EXPECT_EQ(machine->num_ranks(), 10);
  }
}

/// Places that were read hold nodes of either kind of preset, or the error says why not.
void expect_placed(const Result<Places>& places) {
  expect_typed(places);
  if (!places.ok()) return;
  for (const char* preset : {"gb200-nvl72", "hgx-h100"}) {
    ClusterSpec spec = *parse_cluster(preset);
    ASSERT_TRUE(apply_places(*places, "f", &spec).ok());
    expect_machine(spec);
  }
}

struct Reader {
  const char* name;
  std::vector<std::string> files;
  void (*read)(const std::string& text);
};

void PrintTo(const Reader& reader, std::ostream* out) {
  *out << reader.name;
}

class Fuzz : public testing::TestWithParam<Reader> {};

TEST_P(Fuzz, EndsWithAResultOrATypedError) {
  const std::uint64_t seed = from_environment("FUZZ_SEED", std::random_device()());
  const std::uint64_t rounds = from_environment("FUZZ_ROUNDS", 3000);
  std::cout << "FUZZ_SEED=" << seed << std::endl;  // seen also when it hangs
  Mutator mutator(seed);
  std::vector<std::string> texts;
  for (const std::string& file : GetParam().files) texts.push_back(*read_file(kData + file));
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const std::string text = mutator.mutate(texts[round % texts.size()]);
    GetParam().read(text);
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ", round " << round << ":\n" << text;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Readers, Fuzz,
    testing::Values(Reader{"nccl",
                           {"bare_metal.xml", "skeleton.xml", "virtual_machine.xml", "four_nics_per_gpu.xml",
                            "rails_and_planes.xml", "two_hosts.xml", "direct_links.xml", "superchip.xml"},
                           [](const std::string& text) { expect_machine(read_nccl_xml(text, "f.xml", nullptr)); }},
                    Reader{"yaml",
                           {"cluster.yaml", "cluster.json"},
                           [](const std::string& text) { expect_machine(read_cluster_yaml(text, kData + "f.yaml")); }},
                    Reader{"slurm",
                           {"topology.conf", "blocks.conf", "uneven_blocks.conf", "tree_and_blocks.conf"},
                           [](const std::string& text) { expect_placed(read_slurm_conf(text, "f.conf")); }},
                    Reader{"slurm_yaml",
                           {"slurm.yaml"},
                           [](const std::string& text) { expect_placed(read_slurm_yaml(text, "f.yaml")); }},
                    Reader{"topograph",
                           {"topograph.json", "topograph_labels.json"},
                           [](const std::string& text) { expect_placed(read_topograph(text, "f.json")); }}),
    [](const testing::TestParamInfo<Reader>& param) { return param.param.name; });

TEST(FuzzTexts, EndWithAResultOrATypedError) {
  const std::uint64_t seed = from_environment("FUZZ_SEED", std::random_device()());
  const std::uint64_t rounds = from_environment("FUZZ_ROUNDS", 3000);
  std::cout << "FUZZ_SEED=" << seed << std::endl;  // seen also when it hangs
  Mutator mutator(seed);
  const std::string node = to_text(parse_cluster("hgx-h100")->types.front());
  const std::string line =
      "hgx-h100:nodes=64,leaf=32,pod=8,oversub=2,oversub2=1.5,isolated=1,rails=8,degraded=n0002/3/0.5";
  for (std::uint64_t round = 0; round < rounds; ++round) {
    expect_typed(node_from_text(mutator.mutate(node)));
    const std::string text = mutator.mutate(line);
    expect_machine(parse_cluster(text));
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ", round " << round << ":\n" << text;
  }
}

}  // namespace
}  // namespace reshard
