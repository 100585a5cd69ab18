// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One layout from what each rank knows of itself. Two all-gathers: the first has a status and a hash from each rank,
// the second the descriptions. Replicas describe the same buffers and blocks (each as if it were rank 0 of its own
// world, see isolate()), so only the first of equal ones is sent: of a thousand replicas one description and not a
// thousand travel to each rank.
#include "src/api/layout_exchange.h"

#include <fmt/format.h>

#include <map>

#include "src/base/bytes.h"
#include "src/base/hasher.h"
#include "src/layout/merge.h"
#include "src/layout/serialize.h"

namespace reshard::api {
namespace {

using Blob = std::vector<std::byte>;

/// A rank describes itself as rank 0, without its number, so that equal replicas are equal byte by byte.
Result<Blob> describe_own(const ModelLayout& local, const Transport& transport) {
  if (local.num_ranks() != transport.num_ranks()) {
    return invalid_argument(
        fmt::format("the layout is for {} ranks and the comm has {}", local.num_ranks(), transport.num_ranks()));
  }
  RESHARD_TRY(const ModelLayout own, isolate(local, transport.rank()));
  return serialize(own);
}

/// Which rank sends the description that a rank has: the first with the same hash. Fails on all when one could not
/// describe its own.
Result<std::vector<std::size_t>> agree_on_senders(const Result<Blob>& mine, Transport* transport,
                                                  const Deadline& deadline) {
  ByteWriter header;
  header.add(mine.ok() ? RESHARD_OK : mine.status().code());
  header.add(mine.ok() ? "" : mine.status().message());
  Hasher hasher;
  if (mine.ok()) hasher.add_all(*mine);
  header.add(static_cast<std::int64_t>(hasher.digest()));
  RESHARD_TRY(const std::vector<Blob> headers, transport->allgather(header.take(), deadline));
  std::map<std::int64_t, std::size_t> first_with;
  std::vector<std::size_t> senders;
  for (std::size_t r = 0; r < headers.size(); ++r) {
    ByteReader in(headers[r]);
    const auto code = static_cast<reshard_status_t>(in.number());
    const std::string message = in.text();
    const std::int64_t hash = in.number();
    if (!in.ok()) return Status(RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed header", r));
    if (code != RESHARD_OK) return Status(code, fmt::format("on rank {}: {}", r, message));
    senders.push_back(first_with.emplace(hash, r).first->second);
  }
  return senders;
}

}  // namespace

Result<ModelLayout> exchange_layout(const ModelLayout& local, Transport* transport, const Deadline& deadline) {
  const Result<Blob> mine = describe_own(local, *transport);
  RESHARD_TRY(const std::vector<std::size_t> senders, agree_on_senders(mine, transport, deadline));
  const auto self = static_cast<std::size_t>(transport->rank());
  // Past this point every rank knows that all could describe their own, so none leaves before the second exchange.
  RESHARD_TRY(const std::vector<Blob> sent, transport->allgather(senders[self] == self ? *mine : Blob(), deadline));
  std::map<std::size_t, ModelLayout> described;  // by sender
  ModelLayout merged(local.num_ranks());
  for (std::size_t r = 0; r < sent.size(); ++r) {
    if (senders[r] == r) {
      Result<ModelLayout> own = deserialize(sent[r]);
      if (!own.ok()) return own.take_status().with_context(fmt::format("what rank {} sent", r));
      described.emplace(r, own.take());
    }
    RESHARD_TRY(merge(described.at(senders[r]), static_cast<std::int32_t>(r), &merged));
  }
  return merged;
}

}  // namespace reshard::api
