// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The transport of the real network: windows as tagged messages over UCX, memory as UCX's shared segments, everything
// collective over the bootstrap's TCP. Tagged messages and not puts: over TCP UCX emulates a put in pieces of 8 KiB.
//
// Life of a request. The caller's Request is pending from the post on. Where UCX does not finish at once it gives a
// request of its own, whose slot (UcxSlot) points back and is linked into in_flight_; finish() undoes both. An owner
// that cannot wait is cut off (slot->owner is null), and UCX's request goes on alone.
#include "src/transport/ucx.h"

#include <fmt/core.h>
#include <sched.h>

#include <algorithm>
#include <span>
#include <utility>

#include "src/transport/post.h"
#include "src/transport/ucx_memory.h"
#include "src/transport/ucx_worker.h"

namespace reshard {
namespace {

// Teardown never waits longer for peers that do not answer any more.
constexpr std::int64_t kTeardownUs = 300'000;
constexpr std::uint64_t kWholeTag = ~std::uint64_t{0};  // a mask: every bit of a tag must match

std::uint64_t wire_tag(std::int32_t source, std::uint64_t tag) {
  return static_cast<std::uint64_t>(source) << kNumTagBits | tag;
}

// Memory that the driver has locked is the host's to UCX, too.
ucs_memory_type_t memory_type(MemorySpace space) {
  switch (space) {
    case MemorySpace::kHost:
    case MemorySpace::kPinned:
      return UCS_MEMORY_TYPE_HOST;
    case MemorySpace::kDevice:
      return UCS_MEMORY_TYPE_CUDA;
    case MemorySpace::kManaged:
      return UCS_MEMORY_TYPE_CUDA_MANAGED;
  }
  return UCS_MEMORY_TYPE_UNKNOWN;
}

// Used by one thread at a time (Transport::turn()), as is the worker below it.
class UcxTransport final : public Transport {
 public:
  UcxTransport(std::unique_ptr<Bootstrap> bootstrap, std::unique_ptr<UcxWorker> worker)
      : bootstrap_(std::move(bootstrap)),
        rank_(bootstrap_->rank()),
        worker_(std::move(worker)),
        memory_(worker_.get(), rank_) {
    in_flight_.next = in_flight_.previous = &in_flight_;
  }
  ~UcxTransport() override;

  std::int32_t rank() const override { return rank_; }
  std::int32_t num_ranks() const override { return bootstrap_->num_ranks(); }
  std::string name() const override { return "ucx"; }
  void reserve(std::size_t) override {}  // UCX keeps pools of its own
  // Over TCP, UCX tells the receiver that a message has ended behind the bytes of all messages after it.
  std::int32_t most_per_peer() const override { return worker_->has_only_tcp() ? 1 : 2; }

  bool moves(MemorySpace space) const override { return worker_->moves(memory_type(space)); }
  Status send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes, MemorySpace space,
              Request* request) override;
  Status recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, MemorySpace space,
              Request* request) override;
  bool progress() override;
  void idle() override { worker_->idle(); }
  bool cancel_all(std::span<Request* const> requests, const Deadline& budget) override;
  // Where a receiver copies large messages by itself, a sender does nothing more. But the receiver cannot stop once it
  // has begun, and copying all that is posted can take longer than any budget: seen to write 0.1 s after a cancel.
  // Memory of a device may go through buffers of the host that its sender has to fill, whichever peer takes it.
  bool takes_back_sends(std::int32_t peer, MemorySpace space) const override {
    return memory_type(space) == UCS_MEMORY_TYPE_HOST && worker_->receiver_copies(peer);
  }
  bool takes_back_receives(std::int32_t) const override { return false; }
  bool shares_memory(std::int32_t peer) const override { return worker_->is_near(peer); }
  std::int32_t discard(std::int32_t peer, std::uint64_t tag) override;

  Result<void*> allocate(std::size_t size_bytes) override { return memory_.allocate(size_bytes); }
  Status free(void* ptr) override { return memory_.free(ptr); }
  MemoryKey export_memory(const void* ptr, std::size_t size_bytes) override {
    return memory_.export_range(ptr, size_bytes);
  }
  Result<void*> map(std::int32_t peer, const MemoryKey& key) override;
  void unmap(std::int32_t, const MemoryKey&, void* ptr) override { memory_.unmap(ptr); }

  Result<std::vector<std::vector<std::byte>>> allgather(const std::vector<std::byte>& mine,
                                                        const Deadline& deadline) override;
  Status health() override { return bootstrap_->health(); }
  std::span<const std::int32_t> departed() const override { return bootstrap_->departed(); }

 private:
  void progress_until_idle(std::span<Request* const> requests, const Deadline& deadline);
  Status check_space(MemorySpace space) const;
  ucp_request_param_t begin_post(MemorySpace space, Request* request) const;
  struct Post {
    const char* what;  // "a send to"
    std::int32_t peer;
    bool is_send;
    bool is_left_to_peer;  // as UcxSlot's
  };
  Status track(ucs_status_ptr_t posted, const Post& post, Request* request);

  // Destroyed in the opposite order: first the memory, then the worker, then the connections that tell peers of it.
  std::unique_ptr<Bootstrap> bootstrap_;
  const std::int32_t rank_;
  UcxSlot in_flight_{};  // head of the list of requests that UCX has not completed
  std::unique_ptr<UcxWorker> worker_;
  UcxMemory memory_;
};

void complete(Request* request, ucs_status_t status) {
  request->end(status == UCS_OK ? RESHARD_OK : RESHARD_ERR_TRANSPORT);
}

// UCX is done with a request: tells its owner, unless that has abandoned it.
//
// A slot outside of the list is all zeros, from init_slot() on and after every use; so its link says whether the post
// has returned yet.
void finish(void* ucx_request, ucs_status_t status, void* user_data) {
  auto* slot = static_cast<UcxSlot*>(ucx_request);
  if (slot->next == nullptr) {  // still inside the post, which frees it
    complete(static_cast<Request*>(user_data), status);
    return;
  }
  slot->previous->next = slot->next;
  slot->next->previous = slot->previous;
  if (slot->owner != nullptr) complete(slot->owner, status);
  *slot = {};
  ucp_request_free(ucx_request);
}

void on_sent(void* ucx_request, ucs_status_t status, void* user_data) {
  finish(ucx_request, status, user_data);
}
void on_received(void* ucx_request, ucs_status_t status, const ucp_tag_recv_info_t*, void* user_data) {
  finish(ucx_request, status, user_data);
}

// A request is pending before it is posted, because UCX may complete it on the spot. UCX that knows devices would look
// up where each message lies, in a table that it keeps by hooks into the allocator: it is told instead.
ucp_request_param_t UcxTransport::begin_post(MemorySpace space, Request* request) const {
  request->begin(nullptr);
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.user_data = request;
  if (worker_->has_device_memory()) {
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    params.memory_type = memory_type(space);
  }
  return params;
}

UcxTransport::~UcxTransport() {
  const UcxLogMute mute;
  const Deadline deadline(kTeardownUs);
  // What was sent must leave before the worker goes, for peers may still wait for it. With a dead peer that would only
  // spend the time.
  if (bootstrap_->health().ok()) worker_->flush(deadline);
  // The requests' owners may be gone. A receive is taken back; a send that its peer never asked for goes with the
  // worker.
  for (UcxSlot* slot = in_flight_.next; slot != &in_flight_;) {
    UcxSlot* next = slot->next;
    slot->owner = nullptr;
    if (!slot->is_send) ucp_request_cancel(worker_->worker(), slot);
    slot = next;
  }
}

// Takes over what UCX returned for a post: done at once, failed, or a request in flight.
Status UcxTransport::track(ucs_status_ptr_t posted, const Post& post, Request* request) {
  const ucs_status_t status = UCS_PTR_RAW_STATUS(posted);
  // A message that was there already and is too long: the post was good and the request has failed, as it would later.
  if (!UCS_PTR_IS_PTR(posted) && (status == UCS_OK || status == UCS_ERR_MESSAGE_TRUNCATED)) {
    complete(request, status);
    return {};
  }
  if (UCS_PTR_IS_ERR(posted)) {
    request->reset();
    return ucx_error(fmt::format("{} rank {} could not be posted", post.what, post.peer), status);
  }
  // The callback came before the post returned, and left UCX's request to us.
  if (!request->pending()) {
    ucp_request_free(posted);
    return {};
  }
  auto* slot = static_cast<UcxSlot*>(posted);
  *slot = {request, post.is_send, post.is_left_to_peer, in_flight_.previous, &in_flight_};
  slot->previous->next = slot->next->previous = slot;
  request->impl = slot;
  return {};
}

Status UcxTransport::send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes,
                          MemorySpace space, Request* request) {
  RESHARD_TRY(check_post(peer, num_ranks(), tag, *request));
  RESHARD_TRY(check_space(space));
  RESHARD_TRY(ucp_ep_h endpoint, worker_->endpoint(peer));
  ucp_request_param_t params = begin_post(space, request);
  params.cb.send = on_sent;
  return track(ucp_tag_send_nbx(endpoint, data, size_bytes, wire_tag(rank_, tag), &params),
               {"a send to", peer, true, takes_back_sends(peer, space)}, request);
}

Status UcxTransport::recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, MemorySpace space,
                          Request* request) {
  RESHARD_TRY(check_post(peer, num_ranks(), tag, *request));
  RESHARD_TRY(check_space(space));
  ucp_request_param_t params = begin_post(space, request);
  params.cb.recv = on_received;
  return track(ucp_tag_recv_nbx(worker_->worker(), data, size_bytes, wire_tag(peer, tag), kWholeTag, &params),
               {"a receive from", peer, false, false}, request);
}

Status UcxTransport::check_space(MemorySpace space) const {
  if (moves(space)) return {};
  return {
      RESHARD_ERR_NOT_SUPPORTED,
      fmt::format("UCX does not move {} memory on every rank: it needs a UCX that was built with CUDA, and a device",
                  memory_space_name(space))};
}

bool UcxTransport::progress() {
  return worker_->progress();
}

void UcxTransport::progress_until_idle(std::span<Request* const> requests, const Deadline& deadline) {
  // Yields and never sleeps: the peers that should answer may share this core.
  const auto is_pending = [](const Request* request) { return request->pending(); };
  while (true) {
    if (std::none_of(requests.begin(), requests.end(), is_pending) || deadline.expired()) return;
    if (!worker_->progress()) sched_yield();
  }
}

// UCX 1.13 takes back a receive that nothing has come for. It takes back no send, and no receive that has begun: those
// end by themselves while the peer plays along, which is given the time of the budget. First all are asked for, then
// all are waited for together, so that many cost no more time than one.
bool UcxTransport::cancel_all(std::span<Request* const> requests, const Deadline& budget) {
  for (Request* request : requests) {
    if (!request->pending()) continue;
    auto* slot = static_cast<UcxSlot*>(request->impl);
    if (!slot->is_send) ucp_request_cancel(worker_->worker(), slot);
  }
  progress_until_idle(requests, budget);
  bool is_idle = true;
  for (Request* request : requests) {
    if (request->pending()) {
      auto* slot = static_cast<UcxSlot*>(request->impl);
      is_idle = is_idle && slot->is_left_to_peer;
      if (!slot->is_left_to_peer) continue;
      // Only the receiver reads the memory, and throws it away. The request waits for its answer without us.
      slot->owner = nullptr;
    }
    request->reset();
  }
  return is_idle;
}

std::int32_t UcxTransport::discard(std::int32_t peer, std::uint64_t tag) {
  std::int32_t num_discarded = 0;
  ucp_tag_recv_info_t info{};
  // The probe takes the message out of UCX's list (remove = 1), so that every turn sees another one.
  while (ucp_tag_message_h message = ucp_tag_probe_nb(worker_->worker(), wire_tag(peer, tag), kWholeTag, 1, &info)) {
    // A receive of nothing: a send that waits for it is told that it is over.
    ucp_request_param_t params{};
    void* request = ucp_tag_msg_recv_nbx(worker_->worker(), nullptr, 0, message, &params);
    if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);
    ++num_discarded;
  }
  return num_discarded;
}

Result<void*> UcxTransport::map(std::int32_t peer, const MemoryKey& key) {
  RESHARD_TRY(check_peer(peer, num_ranks()));
  return memory_.map(peer, key);
}

Result<std::vector<std::vector<std::byte>>> UcxTransport::allgather(const std::vector<std::byte>& mine,
                                                                    const Deadline& deadline) {
  return bootstrap_->allgather(mine, deadline, [this] { return progress(); });
}

}  // namespace

Result<std::unique_ptr<Transport>> create_ucx_transport(std::unique_ptr<Bootstrap> bootstrap,
                                                        const std::string& net_devices, const Deadline& deadline) {
  RESHARD_TRY(auto worker, UcxWorker::create(bootstrap->num_ranks(), net_devices));
  RESHARD_TRY(const Blob address, worker->address());
  RESHARD_TRY(const auto addresses, bootstrap->allgather(address, deadline, {}));
  RESHARD_TRY(worker->connect(addresses, bootstrap->rank(), deadline));
  // Nobody goes on before all are connected.
  auto connected = bootstrap->allgather({}, deadline, [&] { return worker->progress(); });
  if (!connected.ok()) return connected.take_status();
  return std::unique_ptr<Transport>(std::make_unique<UcxTransport>(std::move(bootstrap), std::move(worker)));
}

}  // namespace reshard
