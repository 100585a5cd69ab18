// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Ranks that are threads of one process. A send leaves a note with an address in the receiver's mailbox; the receiver
// copies on its own thread and puts the note into the sender's mailbox, as a receipt. So a window is copied once, the
// state of a transport is touched by its rank's thread alone, and only what ranks share (local_world.h) has locks.
#include "src/transport/local.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "src/transport/local_world.h"
#include "src/transport/post.h"

namespace reshard {
namespace {

// Yields before idle() sleeps on the condition variable: a peer that is about to post is caught without a sleep.
constexpr int kYieldsBeforeSleep = 50;

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<LocalWorld> world, std::int32_t rank)
      : world_(std::move(world)), mailbox_(world_->mailbox(rank)), rank_(rank) {}
  ~LocalTransport() override;

  std::int32_t rank() const override { return rank_; }
  std::int32_t num_ranks() const override { return world_->num_ranks(); }
  std::string name() const override { return "local"; }

  void reserve(std::size_t num_requests) override;
  Status send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes, MemorySpace,
              Request* request) override;
  Status recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, MemorySpace,
              Request* request) override;
  bool progress() override;
  void idle() override;
  bool cancel_all(std::span<Request* const> requests, const Deadline& budget) override;
  // A receiver copies at once or not at all.
  bool takes_back_sends(std::int32_t, MemorySpace) const override { return true; }
  bool takes_back_receives(std::int32_t) const override { return true; }
  bool shares_memory(std::int32_t) const override { return true; }
  std::int32_t discard(std::int32_t peer, std::uint64_t tag) override;

  Result<void*> allocate(std::size_t size_bytes) override { return world_->memory().allocate(rank_, size_bytes); }
  Status free(void* ptr) override { return world_->memory().free(rank_, ptr); }
  MemoryKey export_memory(const void* ptr, std::size_t size_bytes) override {
    return world_->memory().export_range(rank_, ptr, size_bytes);
  }
  Result<void*> map(std::int32_t peer, const MemoryKey& key) override;
  void unmap(std::int32_t, const MemoryKey&, void*) override {}

  Result<std::vector<std::vector<std::byte>>> allgather(const std::vector<std::byte>& mine,
                                                        const Deadline& deadline) override;
  Status health() override {  // a thread does not die alone, but may leave
    world_->update_departed(&departed_);
    return {};
  }
  std::span<const std::int32_t> departed() const override { return departed_; }

 private:
  struct Receive {
    Envelope envelope;
    void* data;
    Request* request;
  };

  void deliver(LocalSend* send, const Receive& receive);
  void withdraw(LocalSend* send);
  bool complete_sends();
  bool match_arrivals();
  LocalSend* new_send();

  std::shared_ptr<LocalWorld> world_;
  LocalMailbox& mailbox_;
  const std::int32_t rank_;
  std::vector<Receive> posted_;  // in order of posting
  // Sends live as long as the transport and are used again and again, so that the second run of a plan allocates none.
  std::vector<std::unique_ptr<LocalSend>> all_sends_;
  std::vector<LocalSend*> free_sends_;
  // Scratch of progress().
  std::vector<LocalSend*> finished_;
  std::vector<std::pair<LocalSend*, Receive>> matched_;
  std::uint64_t sequence_ = 0;  // of the next all-gather
  std::vector<std::int32_t> departed_;
  int num_idle_ = 0;
};

// After this no peer reaches into this object. Small messages are left behind, for a receiver may still want them; of
// large ones the memory is the caller's, so they are taken back, after the copies that have begun.
LocalTransport::~LocalTransport() {
  for (auto& send : all_sends_) {
    if (send->is_posted && send->is_kept()) {
      world_->adopt(std::move(send));
    } else if (send->request != nullptr) {
      withdraw(send.get());
    }
  }
  world_->memory().free_all(rank_);
  world_->leave(rank_);
}

void LocalTransport::reserve(std::size_t num_requests) {
  // So that no run of a plan allocates, once its engine has announced how much will be in flight.
  posted_.reserve(num_requests);
  finished_.reserve(num_requests);
  matched_.reserve(num_requests);
  free_sends_.reserve(num_requests);
  while (all_sends_.size() < num_requests) {
    all_sends_.push_back(std::make_unique<LocalSend>());
    free_sends_.push_back(all_sends_.back().get());
  }
  // What every rank may have sent here, or finished for it, before this one looks.
  mailbox_.reserve(num_requests * static_cast<std::size_t>(num_ranks()));
}

LocalSend* LocalTransport::new_send() {
  if (free_sends_.empty()) {
    all_sends_.push_back(std::make_unique<LocalSend>());
    free_sends_.push_back(all_sends_.back().get());
  }
  LocalSend* send = free_sends_.back();
  free_sends_.pop_back();
  return send;
}

Status LocalTransport::send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes, MemorySpace,
                            Request* request) {
  RESHARD_TRY(check_post(peer, num_ranks(), tag, *request));
  LocalSend* send = new_send();
  // Whatever is written here the receiver sees: the mailbox's lock lies between.
  *send = {
      .envelope = {rank_, tag, size_bytes}, .destination = peer, .data = data, .request = request, .is_posted = true};
  if (send->is_kept() && size_bytes > 0) {
    std::memcpy(send->kept.data(), data, size_bytes);
    send->data = send->kept.data();
  }
  request->begin(send);
  world_->mailbox(peer).post(send);
  return {};
}

Status LocalTransport::recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, MemorySpace,
                            Request* request) {
  RESHARD_TRY(check_post(peer, num_ranks(), tag, *request));
  const Receive receive{{peer, tag, size_bytes}, data, request};
  request->begin(nullptr);
  // Before it is posted, for what came first must be matched first.
  LocalSend* send = mailbox_.take_unexpected(receive.envelope);
  if (send == nullptr) {
    posted_.push_back(receive);
  } else {
    deliver(send, receive);
  }
  return {};
}

// Runs on the receiver's thread; the sender keeps its memory until it sees the send among the completed ones.
void LocalTransport::deliver(LocalSend* send, const Receive& receive) {
  const std::size_t size_bytes = send->envelope.size_bytes;
  const bool fits = size_bytes <= receive.envelope.size_bytes;
  if (fits && size_bytes > 0) std::memcpy(receive.data, send->data, size_bytes);
  receive.request->end(fits ? RESHARD_OK : RESHARD_ERR_TRANSPORT);
  world_->mailbox(send->envelope.source).complete(send);
}

// The receipts: only now may the caller have his memory back, and the note serve for another send.
bool LocalTransport::complete_sends() {
  mailbox_.take_completed(&finished_);
  for (LocalSend* send : finished_) {
    if (send->request != nullptr) send->request->end(RESHARD_OK);
    send->request = nullptr;
    send->is_posted = false;
    free_sends_.push_back(send);
  }
  return !finished_.empty();
}

// Matches under the mailbox's lock and copies after it, so that senders never wait for a copy of other ranks' bytes.
bool LocalTransport::match_arrivals() {
  matched_.clear();
  mailbox_.match_arrivals([this](LocalSend* send) {
    auto it = std::find_if(posted_.begin(), posted_.end(),
                           [&](const Receive& receive) { return receive.envelope.matches(send->envelope); });
    if (it == posted_.end()) return false;
    matched_.emplace_back(send, *it);
    posted_.erase(it);
    return true;
  });
  for (const auto& [send, receive] : matched_) deliver(send, receive);
  return !matched_.empty();
}

bool LocalTransport::progress() {
  const bool sent = complete_sends();
  const bool received = match_arrivals();
  if (sent || received) num_idle_ = 0;
  return sent || received;
}

void LocalTransport::idle() {
  if (++num_idle_ <= kYieldsBeforeSleep) {
    sched_yield();
  } else {
    mailbox_.sleep();
  }
}

// Takes a send back, or waits for the end of the copy that a receiver has begun.
void LocalTransport::withdraw(LocalSend* send) {
  if (world_->mailbox(send->destination).remove(send)) {
    send->request = nullptr;
    send->is_posted = false;
    free_sends_.push_back(send);
    return;
  }
  // Ends without a deadline: the receiver is inside a memcpy and not waiting for anybody.
  while (send->request != nullptr) {
    if (!complete_sends()) mailbox_.sleep();
  }
}

bool LocalTransport::cancel_all(std::span<Request* const> requests, const Deadline&) {
  for (Request* request : requests) {
    if (!request->pending()) continue;
    auto* send = static_cast<LocalSend*>(request->impl);
    // A receive has no note of its own; it is pending, so it is among the posted ones.
    if (send == nullptr) {
      std::erase_if(posted_, [&](const Receive& receive) { return receive.request == request; });
    } else if (send->is_kept()) {
      send->request = nullptr;
    } else {
      withdraw(send);
    }
    request->reset();
  }
  return true;
}

std::int32_t LocalTransport::discard(std::int32_t peer, std::uint64_t tag) {
  match_arrivals();  // what has come by now counts, too
  std::int32_t num_discarded = 0;
  while (LocalSend* send = mailbox_.take_unexpected({peer, tag, 0})) {
    world_->mailbox(peer).complete(send);
    ++num_discarded;
  }
  return num_discarded;
}

Result<void*> LocalTransport::map(std::int32_t peer, const MemoryKey& key) {
  RESHARD_TRY(check_peer(peer, num_ranks()));
  return world_->memory().map(key);
}

Result<std::vector<std::vector<std::byte>>> LocalTransport::allgather(const std::vector<std::byte>& mine,
                                                                      const Deadline& deadline) {
  const std::uint64_t sequence = sequence_++;
  world_->contribute(sequence, rank_, mine);
  // Progress goes on, because a peer may need the end of a message of ours before it can come to the all-gather.
  while (true) {
    if (auto outcome = world_->poll(sequence, deadline)) return std::move(*outcome);
    if (!progress()) idle();
  }
}

}  // namespace

Result<std::vector<std::unique_ptr<Transport>>> create_local_transports(std::int32_t num_ranks) {
  RESHARD_TRY(check_num_ranks(0, num_ranks));
  auto world = std::make_shared<LocalWorld>(num_ranks);
  std::vector<std::unique_ptr<Transport>> transports;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    transports.push_back(std::make_unique<LocalTransport>(world, rank));
  }
  return transports;
}

}  // namespace reshard
