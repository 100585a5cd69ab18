// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "topology/presets.h"
#include "topology/read/file.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ClusterSpec recorded_xml(const std::string& name, const NodeType* like = nullptr) {
  const Result<std::string> text = read_file(RESHARD_TEST_DATA "/topology/" + name);
  EXPECT_TRUE(text.ok()) << text.status().message();
  Result<ClusterSpec> spec = read_nccl_xml(*text, name, like);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? spec.take() : ClusterSpec();
}

std::vector<std::int32_t> ports_of(const NodeType& type) {
  std::vector<std::int32_t> ports;
  for (const NodeType::Gpu& gpu : type.gpus) ports.push_back(gpu.port);
  return ports;
}

std::vector<std::int32_t> groups_of(const NodeType& type) {
  std::vector<std::int32_t> groups;
  for (const NodeType::Gpu& gpu : type.gpus) groups.push_back(gpu.link_group);
  return groups;
}

std::vector<std::int32_t> rails_of(const NodeType& type) {
  std::vector<std::int32_t> rails;
  for (const NodeType::Port& port : type.ports) rails.push_back(port.rail);
  return rails;
}

TEST(NcclXml, ReadsBareMetalLikeThePresetOfTheSameBoard) {
  const ClusterSpec spec = recorded_xml("bare_metal.xml");
  ASSERT_EQ(spec.types.size(), 1U);
  NodeType type = spec.types[0];
  const NodeType preset = find_preset("hgx-h100")->node;
  type.name = preset.name;
  EXPECT_EQ(type, preset);
  // The storage NIC beside the second CPU serves no GPU, and nothing else is odd.
  EXPECT_THAT(spec.warnings, ElementsAre(HasSubstr("bond0 serves no GPU")));
  EXPECT_EQ(spec.groups[0].num_nodes, 0);
}

TEST(NcclXml, ReadsASkeletonByTheClassesOfItsDevices) {
  const NodeType h200 = find_preset("hgx-h200")->node;
  const ClusterSpec like = recorded_xml("skeleton.xml", &h200);
  ASSERT_EQ(like.types.size(), 1U);
  EXPECT_EQ(like.types[0].gpus, h200.gpus);
  EXPECT_EQ(like.types[0].ports[7].nics[0].link, h200.ports[7].nics[0].link);
  EXPECT_EQ(like.types[0].ports[7].nics[0].name, "nic 0108:00:00.0");
  EXPECT_THAT(like.warnings, IsEmpty());
  // Without one that it is like it says what it took.
  const ClusterSpec alone = recorded_xml("skeleton.xml");
  EXPECT_THAT(alone.warnings, Contains(HasSubstr("taken as 400 Gbit/s")));
  EXPECT_THAT(alone.warnings, Contains(AllOf(HasSubstr("0001:00:00.0"), HasSubstr("by PCIe"))));
  EXPECT_EQ(alone.types[0].gpus[0].link.nominal_bytes_per_s, 63'000'000'000);
  EXPECT_THAT(ports_of(alone.types[0]), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(NcclXml, KeepsWhatAVirtualMachineSaysAndWarnsOfIt) {
  const ClusterSpec spec = recorded_xml("virtual_machine.xml");
  ASSERT_EQ(spec.types.size(), 1U);
  const NodeType& type = spec.types[0];
  EXPECT_THAT(ports_of(type), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(groups_of(type), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_EQ(type.gpus[0].link.nominal_bytes_per_s, 450'000'000'000);
  EXPECT_EQ(type.gpus[0].memory.nominal_bytes_per_s, 4'800'000'000'000);  // H200, by its PCI id
  EXPECT_EQ(type.gpus[0].pcie.nominal_bytes_per_s, 31'500'000'000);
  EXPECT_EQ(spec.warnings.size(), 8U);
  EXPECT_THAT(spec.warnings[3], AllOf(HasSubstr("virtual_machine.xml"), HasSubstr("GPU 3 and mlx5_3"),
                                      HasSubstr("31500 MB/s"), HasSubstr("50000 MB/s")));
}

TEST(NcclXml, MakesOnePortOfTheNicsOfAGpu) {
  const ClusterSpec spec = recorded_xml("four_nics_per_gpu.xml");
  ASSERT_EQ(spec.types.size(), 1U);
  const NodeType& type = spec.types[0];
  ASSERT_EQ(type.ports.size(), 4U);
  EXPECT_EQ(port_name(type.ports[2]), "rdmap2s0+rdmap2s1+rdmap2s2+rdmap2s3");
  EXPECT_EQ(port_link(type.ports[2], {}).nominal_bytes_per_s, 50'000'000'000);
  EXPECT_THAT(ports_of(type), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(type.gpus[0].pcie.nominal_bytes_per_s, 31'500'000'000);  // the GPU's own, below 4 x 15.75 of the NICs
}

TEST(NcclXml, TakesRailsFromTheFileAndKeepsPlanesApart) {
  const ClusterSpec spec = recorded_xml("rails_and_planes.xml");
  ASSERT_EQ(spec.types.size(), 1U);
  EXPECT_THAT(rails_of(spec.types[0]), ElementsAre(2, 3, 0, 1));
  EXPECT_THAT(spec.warnings, ElementsAre(HasSubstr("different planes")));
  std::string text = *read_file(RESHARD_TEST_DATA "/topology/rails_and_planes.xml");
  for (std::size_t i = 0; (i = text.find("plane=\"1\"", i)) != std::string::npos; ++i)
    text.replace(i, 9, "plane=\"0\"");
  EXPECT_THAT(rails_of(read_nccl_xml(text, "x", nullptr)->types[0]), ElementsAre(1, 1, 0, 0));
}

TEST(NcclXml, ReadsTheHostsOfADomain) {
  const ClusterSpec spec = recorded_xml("two_hosts.xml");
  ASSERT_EQ(spec.types.size(), 1U);
  EXPECT_EQ(spec.types[0].gpus.size(), 4U);
  ASSERT_EQ(spec.groups.size(), 1U);
  EXPECT_EQ(spec.groups[0].domain_nodes, 2);
  const Result<Machine> machine = make_machine(spec, {16});
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  EXPECT_EQ(machine->nodes.size(), 4U);
  EXPECT_EQ(machine->domains.size(), 2U);
  EXPECT_EQ(machine->gpus[RankId(0)].link.nominal_bytes_per_s, 900'000'000'000);
}

TEST(NcclXml, JoinsHostsOfOneDomainThatDiffer) {
  std::string text = *read_file(RESHARD_TEST_DATA "/topology/two_hosts.xml");
  text.replace(text.rfind("speed=\"400000\""), 14, "speed=\"200000\"");
  const Result<ClusterSpec> spec = read_nccl_xml(text, "x", nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status().message();
  EXPECT_EQ(spec->types.size(), 2U);
  const Result<Machine> machine = make_machine(*spec, {8});
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  EXPECT_EQ(machine->domains.size(), 1U);
}

TEST(NcclXml, FollowsLinksBetweenGpusAndSharesANic) {
  const ClusterSpec spec = recorded_xml("direct_links.xml");
  ASSERT_EQ(spec.types.size(), 1U);
  EXPECT_THAT(groups_of(spec.types[0]), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(ports_of(spec.types[0]), ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(spec.types[0].gpus[0].link.nominal_bytes_per_s, 3 * 25'000'000'000);
  EXPECT_EQ(make_machine(spec, {4})->domains.size(), 2U);
}

/// The message for the bare metal with one text replaced, and the number of the line it is in.
std::string error_with(const std::string& from, const std::string& to, std::size_t* line) {
  std::string text = *read_file(RESHARD_TEST_DATA "/topology/bare_metal.xml");
  const std::size_t position = text.rfind(from);
  EXPECT_NE(position, std::string::npos);
  *line = 1 + static_cast<std::size_t>(
                  std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
  text.replace(position, from.size(), to);
  const Result<ClusterSpec> spec = read_nccl_xml(text, "topo.xml", nullptr);
  EXPECT_EQ(spec.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  return spec.status().message();
}

TEST(NcclXml, NamesFileLineAndElementOfAnError) {
  std::size_t line = 0;
  const auto at_line = [&](const std::string& element) {
    return testing::ContainsRegex("topo.xml:" + std::to_string(line) + ":[0-9]+: <" + element);
  };
  std::string error = error_with("sm=\"90\"", "sm=\"ninety\"", &line);
  EXPECT_THAT(error, AllOf(at_line("gpu dev=\"7\">"), HasSubstr("\"ninety\"")));
  error = error_with("count=\"5\"", "count=\"0\"", &line);
  EXPECT_THAT(error, AllOf(at_line("nvlink"), HasSubstr("no count")));
  error = error_with("tclass=\"0x068000\"", "tclass=\"0x1234\"", &line);
  EXPECT_THAT(error, AllOf(at_line("nvlink"), HasSubstr("0x1234")));
  error = error_with("class=\"0x020000\"", "class=\"network\"", &line);
  EXPECT_THAT(error, AllOf(at_line("pci busid=\"0000:f0:00.0\">"), HasSubstr("\"network\"")));
  error = error_with("version=\"1\"", "version=\"2\"", &line);
  EXPECT_THAT(error, AllOf(at_line("system>"), HasSubstr("version 2")));
  error = error_with("</cpu>", "</cup>", &line);
  EXPECT_THAT(error, HasSubstr("topo.xml:" + std::to_string(line) + ":"));
  error = error_with("name=\"bond0\"", "name=\"\"", &line);
  EXPECT_THAT(error, AllOf(at_line("net"), HasSubstr("no name")));
}

TEST(NcclXml, SaysWhatItLeftOutOrGuessed) {
  std::string text = *read_file(RESHARD_TEST_DATA "/topology/bare_metal.xml");
  text.replace(text.find("speed=\"400000\""), 14, "speed=\"0\"");
  text.replace(text.rfind("16.0 GT/s PCIe"), 14, "Unknown speed");
  text.replace(text.rfind("<nic>"), 5, "<extra/><nic>");
  const Result<ClusterSpec> spec = read_nccl_xml(text, "topo.xml", nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status().message();
  EXPECT_THAT(spec->warnings, Contains(AllOf(HasSubstr("topo.xml:"), HasSubstr("mlx5_0"), HasSubstr("10 Gbit/s"))));
  EXPECT_THAT(spec->warnings, Contains(HasSubstr("Unknown speed")));
  EXPECT_THAT(spec->warnings, Contains(HasSubstr("<extra>")));
}

TEST(NcclXml, CountsColumnsToo) {
  const auto error = [](const std::string& text) { return read_nccl_xml(text, "t.xml", nullptr).status().message(); };
  EXPECT_THAT(error("<system version=\"1\">\n  <gpu/></system>"), HasSubstr("t.xml:2:3: <gpu>"));
  EXPECT_THAT(error("<system\n version='1'>\n  <cpu></gpu></system>"), HasSubstr("t.xml:3:"));
}

TEST(NcclXml, TakesTheLinkToTheCpuInPlaceOfIdlePcie) {
  const ClusterSpec spec = recorded_xml("superchip.xml");
  ASSERT_EQ(spec.types.size(), 1U);
  const NodeType& type = spec.types[0];
  ASSERT_EQ(type.ports.size(), 1U);
  EXPECT_EQ(port_name(type.ports[0]), "mlx5_9");
  // The NIC's own PCIe, for the ten links to the CPU carry 440 GB/s.
  EXPECT_EQ(type.gpus[0].pcie.nominal_bytes_per_s, 63'000'000'000);
  EXPECT_THAT(spec.warnings, ElementsAre(AllOf(HasSubstr("wlp4s0"), HasSubstr("wireless")),
                                         AllOf(HasSubstr("superchip.xml:14:"), HasSubstr("wg0"), HasSubstr("no PCI"))));
  std::string text = *read_file(RESHARD_TEST_DATA "/topology/superchip.xml");
  text.replace(text.find("bw=\"44000\""), 10, "bw=\"1200\"");
  const Link slow = read_nccl_xml(text, "x", nullptr)->types[0].gpus[0].pcie;
  EXPECT_EQ(slow.nominal_bytes_per_s, 12'000'000'000);
  // Without the links it is what the PCIe says, and a warning.
  text.replace(text.find("<c2c"), text.find("</gpu>") - text.find("<c2c"), "");
  const Result<ClusterSpec> without = read_nccl_xml(text, "x", nullptr);
  EXPECT_EQ(without->types[0].gpus[0].pcie.nominal_bytes_per_s, 4'000'000'000);
  EXPECT_THAT(without->warnings, Contains(HasSubstr("4000 MB/s")));
}

TEST(NcclXml, TakesEmptyAttributesAsAbsent) {
  // NCCL writes an empty one where the system has no such file.
  std::string text = *read_file(RESHARD_TEST_DATA "/topology/bare_metal.xml");
  const std::string speed = "link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"";
  text.replace(text.find(speed), speed.size(), "link_speed=\"\" link_width=\"\" rail=\"\" numaid=\"\"");
  const Result<ClusterSpec> spec = read_nccl_xml(text, "x", nullptr);
  ASSERT_TRUE(spec.ok()) << spec.status().message();
  EXPECT_EQ(spec->warnings.size(), recorded_xml("bare_metal.xml").warnings.size());
  for (const char* required : {"sm", "version", "count", "tclass"}) {
    std::string broken = *read_file(RESHARD_TEST_DATA "/topology/bare_metal.xml");
    const std::size_t begin = broken.find(std::string(" ") + required + "=\"") + std::string(required).size() + 3;
    broken.erase(begin, broken.find('"', begin) - begin);
    EXPECT_EQ(read_nccl_xml(broken, "x", nullptr).status().code(), RESHARD_ERR_INVALID_ARGUMENT) << required;
  }
}

TEST(NcclXml, DoesNotTakeOtherMakersGpusForNvidias) {
  const std::string gpu = R"(<system version="1"><cpu numaid="0"><pci busid="0000:30:00.0" class="0x038000" )"
                          R"(vendor="0x1002" device="0x74a1"><gpu dev="0" sm="94" rank="0" gdr="1">)";
  const std::string end = "</gpu></pci></cpu></system>";
  const Result<ClusterSpec> read = read_nccl_xml(gpu + end, "x", nullptr);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->types[0].gpus[0].memory.nominal_bytes_per_s, 0);
  const std::string link = R"(<xgmi target="0000:31:00.0" count="1" tclass="0x038000"/>)";
  EXPECT_THAT(read_nccl_xml(gpu + link + end, "x", nullptr).status().message(),
              AllOf(HasSubstr("<xgmi>"), HasSubstr("cluster file")));
}

TEST(NcclXml, RefusesNestingWithoutEnd) {
  std::string text = "<system version=\"1\"><cpu>";
  for (int i = 0; i < 100000; ++i) text += "<pci busid=\"x\">";
  EXPECT_EQ(read_nccl_xml(text, "deep.xml", nullptr).status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  for (int i = 0; i < 100000; ++i) text += "</pci>";
  text += "</cpu></system>";
  EXPECT_THAT(read_nccl_xml(text, "deep.xml", nullptr).status().message(), HasSubstr("levels deep"));
}

TEST(ClusterText, ReadsANcclFile) {
  const std::string file = RESHARD_TEST_DATA "/topology/bare_metal.xml";
  for (const std::string& text : {file, "nccl:xml=" + file, "nccl:xml=" + file + ",nodes=2,leaf=1"}) {
    const Result<ClusterSpec> spec = parse_cluster(text);
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    EXPECT_EQ(make_machine(*spec, {16})->num_ranks(), 16);
  }
  const Result<ClusterSpec> like = parse_cluster("hgx-b200:xml=" RESHARD_TEST_DATA "/topology/skeleton.xml");
  ASSERT_TRUE(like.ok()) << like.status().message();
  EXPECT_EQ(like->types[0].gpus[0].link.nominal_bytes_per_s, 900'000'000'000);
  const Result<ClusterSpec> vm = parse_cluster("nccl:xml=" RESHARD_TEST_DATA "/topology/virtual_machine.xml,pcie=63GB");
  ASSERT_TRUE(vm.ok()) << vm.status().message();
  EXPECT_EQ(vm->types[0].gpus[0].pcie.bytes_per_s(), 48'006'000'000);
}

}  // namespace
}  // namespace reshard
