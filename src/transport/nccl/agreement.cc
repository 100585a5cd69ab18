// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/nccl/agreement.h"

#include <fmt/format.h>

#include <map>

#include "src/device/device.h"

namespace reshard {
namespace {

// What the largest of today's machines have. NCCL may choose twice as many where there are as many SMs to spare, and a
// group could then have two operations.
constexpr std::int32_t kMaxCtasForSmallGroups = 32;

std::string wishes(const NcclOffer& offer) {
  return fmt::format("{} communicator, capturable {}, max_ctas {}, traffic_class {}",
                     offer.is_given ? "a given" : "its own", offer.is_capturable ? 1 : 0, offer.max_ctas,
                     offer.traffic_class);
}

Status compare(const std::vector<NcclOffer>& offers) {
  for (std::size_t r = 1; r < offers.size(); ++r) {
    // How a group is cut depends on the version, and both ends must cut alike.
    if (offers[r].version != offers[0].version) {
      return {RESHARD_ERR_PLAN_MISMATCH,
              fmt::format("rank 0 has NCCL {} and rank {} NCCL {}; all ranks need the same",
                          nccl_version_text(offers[0].version), r, nccl_version_text(offers[r].version))};
    }
    const std::string first = wishes(offers[0]);
    if (const std::string other = wishes(offers[r]); other != first) {
      return invalid_argument(
          fmt::format("rank 0 wants {}, and rank {} {}; give the same on all ranks", first, r, other));
    }
  }
  return {};
}

/// NCCL's own answer to ranks that share a device would come from deep within its start, without their numbers.
Status check_devices(const std::vector<NcclOffer>& offers) {
  if (offers[0].is_given || nccl_features(offers[0].version).shares_devices) return {};
  std::map<std::string, std::size_t> first;
  for (std::size_t r = 0; r < offers.size(); ++r) {
    if (offers[r].device_uuid.empty()) continue;
    const auto [place, is_new] = first.emplace(offers[r].device_uuid, r);
    if (is_new) continue;
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("ranks {} and {} are on one device ({}), and NCCL {} takes one rank per device; several need "
                        "NCCL 2.30 or newer with NCCL_MULTI_RANK_GPU_ENABLE=1",
                        place->second, r, offers[r].device_uuid, nccl_version_text(offers[0].version))};
  }
  return {};
}

}  // namespace

std::int32_t effective_max_ctas(std::int32_t version, const NcclOptions& options) {
  if (options.max_ctas > 0) return options.max_ctas;
  if (options.given != nullptr) return kNcclMostChannels;
  return nccl_features(version).carries_rounds ? 0 : kMaxCtasForSmallGroups;
}

Status check_nccl_options(const NcclOptions& options) {
  if (options.max_ctas < 0 || options.max_ctas > kNcclMostChannels) {
    return invalid_argument(
        fmt::format("max_ctas is {}; give 1 to {}, or 0 for NCCL's own choice", options.max_ctas, kNcclMostChannels));
  }
  if (options.traffic_class < -1 || options.traffic_class > 255) {
    return invalid_argument(
        fmt::format("traffic_class is {}; give 0 to 255, or -1 for NCCL's own choice", options.traffic_class));
  }
  if (options.given != nullptr && options.traffic_class != -1) {
    return invalid_argument(
        fmt::format("traffic_class is {} for a given communicator, which has its own; give -1", options.traffic_class));
  }
  if (options.given == nullptr && options.may_revoke_given) {
    return invalid_argument("there is no given communicator that could be revoked");
  }
  return {};
}

void write_offer(const NcclOffer& offer, ByteWriter* writer) {
  writer->add(offer.usable.code());
  writer->add(offer.usable.message());
  for (const std::int64_t value :
       {std::int64_t{offer.version}, std::int64_t{offer.max_ctas}, std::int64_t{offer.traffic_class},
        std::int64_t{offer.is_given ? 1 : 0}, std::int64_t{offer.is_capturable ? 1 : 0}}) {
    writer->add(value);
  }
  writer->add(offer.device_uuid);
  writer->add(offer.id);
}

NcclOffer read_offer(ByteReader* reader) {
  NcclOffer offer;
  const auto code = static_cast<reshard_status_t>(reader->number());
  std::string message = reader->text();
  if (code != RESHARD_OK) offer.usable = {code, std::move(message)};
  offer.version = static_cast<std::int32_t>(reader->number());
  offer.max_ctas = static_cast<std::int32_t>(reader->number());
  offer.traffic_class = static_cast<std::int32_t>(reader->number());
  offer.is_given = reader->number() != 0;
  offer.is_capturable = reader->number() != 0;
  offer.device_uuid = reader->text();
  offer.id = reader->blob();
  return offer;
}

NcclOffer make_offer(std::int32_t device, const NcclOptions& options) {
  NcclOffer offer;
  offer.max_ctas = options.max_ctas;
  offer.traffic_class = options.traffic_class;
  offer.is_given = options.given != nullptr;
  offer.is_capturable = options.is_capturable;
  offer.usable = [&]() -> Status {
    RESHARD_TRY(check_nccl_options(options));
    RESHARD_TRY(const std::shared_ptr<const NcclLibrary> library, NcclLibrary::load(options.library));
    offer.version = library->version();
    RESHARD_TRY(const DeviceInfo info, device_info(device));
    offer.device_uuid = info.uuid;
    const bool needs_revoke = options.is_capturable || options.may_revoke_given;
    if (!needs_revoke || library->has_revoke()) return {};
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("{} has no ncclCommRevoke, without which no communicator can be given up that is the caller's "
                        "or capturable; NCCL 2.28.7 or newer is needed",
                        library->text())};
  }();
  return offer;
}

Status judge(const std::vector<NcclOffer>& offers) {
  for (std::size_t r = 0; r < offers.size(); ++r) {
    const Status& usable = offers[r].usable;
    if (!usable.ok()) return {usable.code(), fmt::format("on rank {}: {}", r, usable.message())};
  }
  RESHARD_TRY(compare(offers));
  return check_devices(offers);
}

Result<std::vector<std::byte>> agree(Collective* collective, const NcclOffer& mine, const Deadline& deadline) {
  ByteWriter writer;
  write_offer(mine, &writer);
  RESHARD_TRY(const auto blobs, collective->allgather(writer.take(), deadline));
  // A rank that cannot take part says so in its own words.
  if (!mine.usable.ok()) return mine.usable;
  std::vector<NcclOffer> offers;
  for (std::size_t r = 0; r < blobs.size(); ++r) {
    ByteReader reader(blobs[r]);
    offers.push_back(read_offer(&reader));
    if (!reader.ok()) return Status(RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed NCCL offer", r));
  }
  RESHARD_TRY(judge(offers));
  return std::move(offers[0].id);
}

}  // namespace reshard
