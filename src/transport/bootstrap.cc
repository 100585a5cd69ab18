// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The three ways to a rendezvous: a unique id, a launcher's environment, and the caller's all-gather. They differ in
// how the others learn where rank 0 listens and which secret the job has; from there on all are the same star
// (tcp_star.h).
#include "src/transport/bootstrap.h"

#include <fmt/core.h>

#include <cstring>
#include <iterator>

#include "src/transport/post.h"
#include "src/transport/tcp_star.h"

namespace reshard {
namespace {

// What the 128 bytes of a unique id hold. The secret makes the id itself one: whoever sees it can join.
struct IdContent {
  char magic[8];  // the last character is the version
  Secret secret;
  // Only the process that made the id, or a fork of it, can be rank 0: elsewhere this number is nothing or something
  // else, which listening_port() tells.
  std::int32_t listener;  // descriptor of the listening socket in the process that made the id
  std::uint16_t port;
  char host[64];
};
static_assert(sizeof(IdContent) <= sizeof(reshard_unique_id_t));
constexpr char kIdMagic[sizeof(IdContent::magic)] = {'r', 'e', 's', 'h', 'a', 'r', 'd', '2'};

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
Result<std::unique_ptr<Bootstrap>> meet(Result<std::unique_ptr<Bootstrap>> bootstrap, const Deadline& deadline) {
  Status status = bootstrap.ok() ? (*bootstrap)->allgather({}, deadline, {}).take_status() : bootstrap.take_status();
  if (!status.ok()) return std::move(status).with_context("rendezvous");
  return bootstrap;
}

// Ports are tried because a launcher names a place and reserves none. The others try the same ports, and the handshake
// tells them a stranger's from ours.
Result<Fd> listen_on_first_free(const Rendezvous& rendezvous) {
  const std::string& host = rendezvous.hosts.front();
  const bool is_loopback = host == "localhost" || host.starts_with("127.");
  Status status;
  for (std::uint16_t i = 0; i < rendezvous.num_ports; ++i) {
    // A host's name may resolve to a loopback address on the host itself, which the others could not reach.
    auto listener = listen_on(is_loopback ? host : "", static_cast<std::uint16_t>(rendezvous.port + i));
    if (listener.ok()) return listener;
    status = listener.take_status();
  }
  return std::move(status).with_context(
      fmt::format("rank 0 found no free port from {} to {}; set RESHARD_ROOT=host:port to another one", rendezvous.port,
                  rendezvous.port + rendezvous.num_ports - 1));
}

// What each rank puts into the caller's all-gather; the addresses count from rank 0 only.
struct Greeting {
  std::int32_t rank;
  std::uint16_t port;
  Secret secret;
  // As many as a node with many NICs has and room for any numeric IPv6 address: every rank contributes bytes of this
  // size to the caller's all-gather, which takes pieces of one size only.
  char hosts[16][64];
};

// All addresses, because rank 0 cannot know by which one a given rank reaches it; the leaf tries them in turn.
Greeting greeting_of_root(const Fd& listener, const Secret& secret) {
  Greeting greeting{};
  greeting.port = listening_port(listener.get());
  greeting.secret = secret;
  std::size_t num_hosts = 0;
  for (const std::string& host : local_addresses()) {
    if (num_hosts == std::size(greeting.hosts)) break;
    if (host.size() < sizeof(greeting.hosts[0])) std::memcpy(greeting.hosts[num_hosts++], host.data(), host.size());
  }
  return greeting;
}

Result<Greeting> exchange(reshard_allgather_fn allgather, void* user, const Greeting& mine, std::int32_t num_ranks) {
  std::vector<Greeting> all(static_cast<std::size_t>(num_ranks));
  const int result = allgather(&mine, all.data(), sizeof(mine), user);
  if (result != 0) {
    return Status(RESHARD_ERR_TRANSPORT,
                  fmt::format("the caller's all-gather of {} bytes per rank returned {} on rank {}", sizeof(mine),
                              result, mine.rank));
  }
  // A callback that gathers in another order, or fills only its own part, would otherwise end in a rendezvous that
  // hangs.
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    const std::int32_t found = all[static_cast<std::size_t>(rank)].rank;
    if (found == rank) continue;
    return invalid_argument(
        fmt::format("the caller's all-gather put the bytes of rank {} in the place of rank {}: it must "
                    "return those of all {} ranks in rank order",
                    found, rank, num_ranks));
  }
  return all.front();
}

}  // namespace

Result<reshard_unique_id_t> create_unique_id(const char* address) {
  const std::string host = address == nullptr ? "127.0.0.1" : address;
  IdContent content{};
  if (host.empty() || host.size() >= sizeof(content.host)) {
    return invalid_argument(
        fmt::format("the address \"{}\" must have 1 to {} characters", host, sizeof(content.host) - 1));
  }
  RESHARD_TRY(Fd listener, listen_on(host, 0));
  RESHARD_TRY(content.secret, random_secret());
  std::memcpy(content.magic, kIdMagic, sizeof(kIdMagic));
  std::memcpy(content.host, host.data(), host.size());
  content.port = listening_port(listener.get());
  // From here on the id owns the socket, as a number: destroy_unique_id() or rank 0's rendezvous makes an Fd of it
  // again.
  content.listener = listener.release();
  reshard_unique_id_t id{};
  std::memcpy(id.data, &content, sizeof(content));
  return id;
}

Status destroy_unique_id(const reshard_unique_id_t& id) {
  RESHARD_TRY(const IdContent content, read_id(id));
  // Where the id was joined, or came from another process, the number may be that of something else.
  if (listening_port(content.listener) == content.port) Fd(content.listener).reset();
  return {};
}

Result<std::unique_ptr<Bootstrap>> create_tcp_bootstrap(const reshard_unique_id_t& id, std::int32_t rank,
                                                        std::int32_t num_ranks, const Deadline& deadline,
                                                        const Notice& notice) {
  RESHARD_TRY(check_num_ranks(rank, num_ranks));
  RESHARD_TRY(const IdContent content, read_id(id));
  if (rank != 0) {
    return meet(create_tcp_leaf({{content.host}, content.port, 1, content.secret}, rank, num_ranks, deadline, notice),
                deadline);
  }
  if (listening_port(content.listener) != content.port) {
    return Status(
        RESHARD_ERR_INVALID_STATE,
        fmt::format("rank 0 does not hold the socket of the unique id (port {}): the process that makes the id "
                    "must be rank 0, and an id can be used once",
                    content.port));
  }
  return meet(create_tcp_root(Fd(content.listener), content.secret, num_ranks, notice), deadline);
}

namespace {

Result<std::unique_ptr<Bootstrap>> meet_launched(const Launch& launch, const Deadline& deadline, const Notice& notice) {
  if (launch.rank != 0) {
    return meet(create_tcp_leaf(launch.rendezvous, launch.rank, launch.num_ranks, deadline, notice), deadline);
  }
  RESHARD_TRY(Fd listener, listen_on_first_free(launch.rendezvous));
  return meet(create_tcp_root(std::move(listener), launch.rendezvous.secret, launch.num_ranks, notice), deadline);
}

}  // namespace

Result<std::unique_ptr<Bootstrap>> create_launch_bootstrap(const Launch& launch, const Deadline& deadline,
                                                           const Notice& notice) {
  RESHARD_TRY(check_num_ranks(launch.rank, launch.num_ranks));
  Notice named;
  if (notice) {
    named = [notice, origin = launch.origin](const std::string& text) { notice(text + "; " + origin); };
  }
  auto met = meet_launched(launch, deadline, named);
  if (!met.ok() && !launch.origin.empty()) return met.take_status().with_context(launch.origin);
  return met;
}

Result<std::unique_ptr<Bootstrap>> create_callback_bootstrap(reshard_allgather_fn allgather, void* user,
                                                             std::int32_t rank, std::int32_t num_ranks,
                                                             Deadline* deadline, const Notice& notice) {
  RESHARD_TRY(check_num_ranks(rank, num_ranks));
  if (allgather == nullptr) return invalid_argument("the all-gather callback is NULL");
  Fd listener;
  Greeting mine{};
  if (rank == 0) {
    RESHARD_TRY(listener, listen_on("", 0));
    RESHARD_TRY(const Secret secret, random_secret());
    mine = greeting_of_root(listener, secret);
  }
  mine.rank = rank;
  RESHARD_TRY(const Greeting root, exchange(allgather, user, mine, num_ranks));
  *deadline = Deadline(deadline->timeout_us());
  if (rank == 0) return meet(create_tcp_root(std::move(listener), root.secret, num_ranks, notice), *deadline);
  // One port and many addresses: rank 0 listens on all of its addresses at once.
  Rendezvous rendezvous{{}, root.port, 1, root.secret};
  for (const auto& host : root.hosts) {
    if (host[0] != '\0') rendezvous.hosts.emplace_back(host, strnlen(host, sizeof(host)));
  }
  return meet(create_tcp_leaf(rendezvous, rank, num_ranks, *deadline, notice), *deadline);
}

}  // namespace reshard
