// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/driver_choice.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {
namespace {

Result<std::vector<DriverOffer>> exchange(Collective* collective, const DriverOffer& mine, const Deadline& deadline) {
  ByteWriter writer;
  write_call(mine.call, &writer);
  writer.add(static_cast<std::int64_t>(mine.wish));
  writer.add(mine.messages);
  write_offer(mine.nccl, &writer);
  RESHARD_TRY(const auto blobs, collective->allgather(writer.take(), deadline));
  std::vector<DriverOffer> offers;
  for (std::size_t r = 0; r < blobs.size(); ++r) {
    ByteReader reader(blobs[r]);
    RESHARD_TRY(read_same_call(mine.call, static_cast<std::int32_t>(r), &reader));
    DriverOffer offer;
    offer.wish = static_cast<DriverWish>(reader.number());
    offer.messages = reader.text();
    offer.nccl = read_offer(&reader);
    if (!reader.ok()) return Status(RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed choice of driver", r));
    offers.push_back(std::move(offer));
  }
  return offers;
}

DriverChoice choose_for_auto(const std::vector<DriverOffer>& offers) {
  std::vector<NcclOffer> nccl;
  for (const DriverOffer& offer : offers) nccl.push_back(offer.nccl);
  if (const Status judged = judge(nccl); !judged.ok()) return {false, "no NCCL: " + judged.message()};
  const auto well =
      std::find_if(offers.begin(), offers.end(), [](const auto& offer) { return !offer.messages.empty(); });
  if (well != offers.end()) return {false, well->messages};
  return {true, "messages of device memory would else go through memory of the host"};
}

}  // namespace

std::string messages_without_nccl(const Transport& transport) {
  if (transport.name() == "local") return "the ranks are threads, which read each other's memory in place";
  if (transport.moves(MemorySpace::kDevice)) return "the comm moves device memory itself";
  return "";
}

Result<DriverChoice> choose_driver(Collective* collective, const DriverOffer& mine, const Deadline& deadline) {
  RESHARD_TRY(const std::vector<DriverOffer> offers, exchange(collective, mine, deadline));
  const auto first = [&](DriverWish wish) {
    return std::find_if(offers.begin(), offers.end(), [&](const DriverOffer& offer) { return offer.wish == wish; });
  };
  const auto nccl = first(DriverWish::kNccl);
  const auto poll = first(DriverWish::kPoll);
  if (nccl != offers.end() && poll != offers.end()) {
    return invalid_argument(
        fmt::format("rank {} wants the driver over NCCL, and rank {} the one that polls; want the same on all ranks",
                    nccl - offers.begin(), poll - offers.begin()));
  }
  if (nccl != offers.end()) return DriverChoice{true, fmt::format("rank {} asked for it", nccl - offers.begin())};
  if (poll != offers.end()) return DriverChoice{false, fmt::format("rank {} asked for it", poll - offers.begin())};
  return choose_for_auto(offers);
}

}  // namespace reshard
