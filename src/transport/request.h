// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/base/status.h"

namespace reshard {

class EndedRequests;

/// One message in flight. Owned by the caller, at a fixed address for as long as it is pending.
///
/// States: kIdle -> kPending by a post that succeeds, -> kDone or kFailed by end(); a cancel leads back to kIdle. All
/// four may be posted from but kPending, so that one object serves a slot for as many windows as pass through it.
struct Request {
  enum class State : std::uint8_t { kIdle, kPending, kDone, kFailed };
  State state = State::kIdle;           ///< written by posts, progress() and cancels only
  reshard_status_t error = RESHARD_OK;  ///< why it failed
  void* impl = nullptr;                 ///< the transport's
  EndedRequests* tell = nullptr;        ///< the owner's list that it is put on when it ends; null: none
  Request* next_ended = nullptr;        ///< the list's
  bool is_listed = false;               ///< on the list
  bool pending() const { return state == State::kPending; }
  bool done() const { return state == State::kDone; }
  bool failed() const { return state == State::kFailed; }

  // The transport's side. What is the owner's stays.
  void begin(void* given) { state = State::kPending, error = RESHARD_OK, impl = given; }
  void reset() { state = State::kIdle, error = RESHARD_OK, impl = nullptr; }
  void end(reshard_status_t outcome);  ///< RESHARD_OK: done
};

/// The requests that have ended, for an owner of many who does not want to look at all of them on every turn. One that
/// was posted again meanwhile may be among them; one is there once at most. A cancel puts nothing on it.
///
/// The list runs through the requests themselves (next_ended), so that pushing allocates nothing. Whoever pops a
/// request looks at its state, because it may be pending again.
class EndedRequests {
 public:
  void push(Request* request) {
    // Keeps the one link of a request from being in two places of the list, which would cut it or close it to a circle.
    if (request->is_listed) return;
    request->is_listed = true;
    request->next_ended = nullptr;
    (first_ == nullptr ? first_ : last_->next_ended) = request;
    last_ = request;
  }
  Request* pop() {  ///< the earliest, or null
    Request* request = first_;
    if (request == nullptr) return nullptr;
    first_ = request->next_ended;
    request->is_listed = false;
    return request;
  }

 private:
  Request* first_ = nullptr;
  Request* last_ = nullptr;
};

inline void Request::end(reshard_status_t outcome) {
  state = outcome == RESHARD_OK ? State::kDone : State::kFailed;
  error = outcome;
  impl = nullptr;
  if (tell != nullptr) tell->push(this);
}

}  // namespace reshard
