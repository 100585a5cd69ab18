// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/bootstrap.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "src/transport/post.h"
#include "src/transport/tcp_star.h"

namespace reshard {
namespace {

// What the 128 bytes of a unique id hold.
struct IdContent {
  char magic[8];
  std::uint64_t nonce;
  std::int32_t listener;  // descriptor of the listening socket in the process that made the id
  std::uint16_t port;
  char host[64];
};
static_assert(sizeof(IdContent) <= sizeof(reshard_unique_id_t));
constexpr char kIdMagic[sizeof(IdContent::magic)] = {'r', 'e', 's', 'h', 'a', 'r', 'd', '1'};

Result<IdContent> read_id(const reshard_unique_id_t& id) {
  IdContent content;
  std::memcpy(&content, id.data, sizeof(content));
  const bool terminated = std::memchr(content.host, '\0', sizeof(content.host)) != nullptr;
  if (std::memcmp(content.magic, kIdMagic, sizeof(kIdMagic)) != 0 || !terminated) {
    return invalid_argument("the unique id is damaged: pass all 128 bytes that reshard_unique_id_create gave");
  }
  return content;
}

// The rendezvous is the first all-gather.
Result<std::unique_ptr<Bootstrap>> meet(std::unique_ptr<Bootstrap> bootstrap, const Deadline& deadline) {
  auto met = bootstrap->allgather({}, deadline, {});
  if (!met.ok()) return met.take_status().with_context("rendezvous");
  return bootstrap;
}

Result<Fd> listen_on_first_free(const Rendezvous& rendezvous) {
  const bool is_loopback = rendezvous.host == "localhost" || rendezvous.host.starts_with("127.");
  Status status;
  for (std::uint16_t i = 0; i < rendezvous.num_ports; ++i) {
    // A host's name may resolve to a loopback address on the host itself, which the others could not reach.
    auto listener = listen_on(is_loopback ? rendezvous.host : "", static_cast<std::uint16_t>(rendezvous.port + i));
    if (listener.ok()) return listener;
    status = listener.take_status();
  }
  return std::move(status).with_context(
      fmt::format("rank 0 found no free port from {} to {}; set RESHARD_ROOT=host:port to another one", rendezvous.port,
                  rendezvous.port + rendezvous.num_ports - 1));
}

class CallbackBootstrap final : public Bootstrap {
 public:
  CallbackBootstrap(reshard_allgather_fn function, void* user, std::int32_t rank, std::int32_t num_ranks)
      : function_(function), user_(user), rank_(rank), num_ranks_(num_ranks) {}

  std::int32_t rank() const override { return rank_; }
  std::int32_t num_ranks() const override { return num_ranks_; }
  Status health() override { return {}; }
  bool blocks() const override { return true; }

  // The caller's all-gather takes one size only: first the sizes, then the blobs, padded to the longest.
  Result<std::vector<Blob>> allgather(const Blob& mine, const Deadline&, const Progress&) override {
    const std::uint64_t size_bytes = mine.size();
    std::vector<std::uint64_t> sizes(static_cast<std::size_t>(num_ranks_));
    RESHARD_TRY(gather(&size_bytes, sizes.data(), sizeof(size_bytes)));
    const std::size_t longest = *std::max_element(sizes.begin(), sizes.end());
    Blob padded = mine;
    padded.resize(longest);
    Blob all(sizes.size() * longest);
    if (longest > 0) RESHARD_TRY(gather(padded.data(), all.data(), longest));
    std::vector<Blob> blobs;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i * longest);
      blobs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(sizes[i]));
    }
    return blobs;
  }

 private:
  Status gather(const void* in, void* out, std::size_t size_bytes) {
    const int result = function_(in, out, size_bytes, user_);
    if (result == 0) return {};
    return {RESHARD_ERR_TRANSPORT, fmt::format("the caller's all-gather of {} bytes per rank returned {} on rank {}",
                                               size_bytes, result, rank_)};
  }

  const reshard_allgather_fn function_;
  void* const user_;
  const std::int32_t rank_;
  const std::int32_t num_ranks_;
};

}  // namespace

Result<reshard_unique_id_t> create_unique_id(const char* address) {
  const std::string host = address == nullptr ? "127.0.0.1" : address;
  IdContent content{};
  if (host.empty() || host.size() >= sizeof(content.host)) {
    return invalid_argument(
        fmt::format("the address \"{}\" must have 1 to {} characters", host, sizeof(content.host) - 1));
  }
  RESHARD_TRY(Fd listener, listen_on(host, 0));
  if (getrandom(&content.nonce, sizeof(content.nonce), 0) != sizeof(content.nonce)) {
    return Status(RESHARD_ERR_INTERNAL, "the kernel gave no random number for a unique id");
  }
  std::memcpy(content.magic, kIdMagic, sizeof(kIdMagic));
  std::memcpy(content.host, host.data(), host.size());
  content.port = listening_port(listener.get());
  content.listener = listener.release();
  reshard_unique_id_t id{};
  std::memcpy(id.data, &content, sizeof(content));
  return id;
}

Result<std::unique_ptr<Bootstrap>> create_tcp_bootstrap(const reshard_unique_id_t& id, std::int32_t rank,
                                                        std::int32_t num_ranks, const Deadline& deadline) {
  RESHARD_TRY(check_num_ranks(rank, num_ranks));
  RESHARD_TRY(const IdContent content, read_id(id));
  if (rank != 0) {
    RESHARD_TRY(auto leaf, create_tcp_leaf({content.host, content.port, 1, content.nonce}, rank, num_ranks, deadline));
    return meet(std::move(leaf), deadline);
  }
  if (listening_port(content.listener) != content.port) {
    return Status(
        RESHARD_ERR_INVALID_STATE,
        fmt::format("rank 0 does not hold the socket of the unique id (port {}): the process that makes the id "
                    "must be rank 0, and an id can be used once",
                    content.port));
  }
  return meet(create_tcp_root(Fd(content.listener), content.nonce, num_ranks), deadline);
}

Result<std::unique_ptr<Bootstrap>> create_launch_bootstrap(const Launch& launch, const Deadline& deadline) {
  RESHARD_TRY(check_num_ranks(launch.rank, launch.num_ranks));
  if (launch.rank != 0) {
    RESHARD_TRY(auto leaf, create_tcp_leaf(launch.rendezvous, launch.rank, launch.num_ranks, deadline));
    return meet(std::move(leaf), deadline);
  }
  RESHARD_TRY(Fd listener, listen_on_first_free(launch.rendezvous));
  return meet(create_tcp_root(std::move(listener), launch.rendezvous.nonce, launch.num_ranks), deadline);
}

Result<std::unique_ptr<Bootstrap>> create_callback_bootstrap(reshard_allgather_fn allgather, void* user,
                                                             std::int32_t rank, std::int32_t num_ranks) {
  RESHARD_TRY(check_num_ranks(rank, num_ranks));
  if (allgather == nullptr) return invalid_argument("the all-gather callback is NULL");
  return std::unique_ptr<Bootstrap>(std::make_unique<CallbackBootstrap>(allgather, user, rank, num_ranks));
}

}  // namespace reshard
