// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Two all-gathers: what each rank found, and then what it made of all answers. Ranks are on one host that agree in boot
// id and name: clones of a virtual machine share the name, containers of one host the boot id.
#include "src/api/node_exchange.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "src/base/at.h"
#include "src/base/bytes.h"
#include "topology/cluster.h"

namespace reshard::api {
namespace {

using Blob = std::vector<std::byte>;

/// A rank that failed sends its error in the same form as the others, with an empty node.
Blob write_answer(const Result<OwnNode>& mine) {
  const OwnNode node = mine.ok() ? *mine : OwnNode();
  ByteWriter writer;
  writer.add(std::int64_t{mine.status().code()});
  writer.add(mine.status().message());
  writer.add(node.hostname);
  writer.add(node.text);
  writer.add(node.domain_id);
  writer.add(node.boot_id);
  writer.add(std::int64_t{node.gpu});
  writer.add(static_cast<std::int64_t>(node.warnings.size()));
  for (const std::string& warning : node.warnings) writer.add(warning);
  return writer.take();
}

Status malformed(std::size_t rank) {
  return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed description of its node", rank)};
}

Result<OwnNode> read_answer(std::size_t rank, const Blob& blob) {
  ByteReader reader(blob);
  const std::int64_t code = reader.number();
  const std::string message = reader.text();
  OwnNode node;
  node.hostname = reader.text();
  node.text = reader.text();
  node.domain_id = reader.text();
  node.boot_id = reader.text();
  const std::int64_t gpu = reader.number();
  for (std::int64_t i = reader.number(); i > 0 && reader.ok(); --i) node.warnings.push_back(reader.text());
  // Also checks that the GPU fits 32 bits: another version of the library may have written it.
  node.gpu = static_cast<std::int32_t>(gpu);
  if (!reader.ok() || node.gpu != gpu) return malformed(rank);
  if (code == RESHARD_OK) return node;
  return Status(static_cast<reshard_status_t>(code), fmt::format("on rank {}: {}", rank, message));
}

/// The machine from all ranks' answers.
Result<GatheredMachine> make(const std::vector<Blob>& answers) {
  std::vector<NodeOfRank> ranks;
  std::map<std::pair<std::string, std::string>, std::int32_t> ranks_on;  // so far, by boot id and name of the host
  GatheredMachine gathered;
  for (std::size_t rank = 0; rank < answers.size(); ++rank) {
    RESHARD_TRY(const OwnNode node, read_answer(rank, answers[rank]));
    const std::int32_t place = ranks_on[{node.boot_id, node.hostname}]++;
    ranks.push_back({node.hostname, node.text, node.gpu < 0 ? place : node.gpu, node.domain_id, node.boot_id});
    if (place > 0) continue;  // what is doubtful about a host, its first rank has said
    for (const std::string& warning : node.warnings) {
      gathered.warnings.push_back(fmt::format("{}: {}", node.hostname, warning));
    }
  }
  RESHARD_TRY(gathered.machine, make_machine_from_nodes(ranks));
  return gathered;
}

/// Equal answers make equal machines, unless the ranks run different versions of this library.
Status check_equal(std::uint64_t mine, const std::vector<Blob>& digests) {
  for (std::size_t rank = 0; rank < digests.size(); ++rank) {
    ByteReader reader(digests[rank]);
    const auto theirs = static_cast<std::uint64_t>(reader.number());
    if (!reader.ok()) return malformed(rank);
    if (theirs == mine) continue;
    return {RESHARD_ERR_PLAN_MISMATCH,
            fmt::format("rank {} made the machine {:016x} of what this rank made {:016x}; load the same version of "
                        "the library on every rank",
                        rank, theirs, mine)};
  }
  return {};
}

}  // namespace

Result<GatheredMachine> exchange_nodes(const Result<OwnNode>& mine, Transport* transport, const Deadline& deadline) {
  RESHARD_TRY(const std::vector<Blob> answers, transport->allgather(write_answer(mine), deadline));
  Result<GatheredMachine> made = make(answers);
  // Ranks that failed come to the second exchange, too, with digest 0: none waits in vain, and one that could make a
  // machine does not stand alone with it.
  const std::uint64_t digest = made.ok() ? made->machine.digest() : 0;
  ByteWriter writer;
  writer.add(static_cast<std::int64_t>(digest));
  Result<std::vector<Blob>> digests = transport->allgather(writer.take(), deadline);
  // A rank whose own discovery failed says so in its own words.
  if (!mine.ok()) return mine.status();
  RESHARD_TRY(GatheredMachine gathered, std::move(made));
  if (!digests.ok()) return digests.take_status();
  RESHARD_TRY(check_equal(digest, *digests));
  return gathered;
}

}  // namespace reshard::api
