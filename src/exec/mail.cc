// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/mail.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace reshard {

Mail::~Mail() {
  std::vector<Request*> requests;
  for (Letter& letter : *letters_) requests.push_back(&letter.request);
  if (!transport_->cancel_all(requests, Deadline(Transport::kCancelUs))) transport_->keep(letters_);
}

Status Mail::send(std::int32_t peer, std::vector<std::byte> bytes) {
  Letter& letter = letters_->emplace_back(Letter{peer, {}, std::move(bytes)});
  return transport_->send(peer, tag_, letter.bytes.data(), letter.bytes.size(), &letter.request);
}

Status Mail::recv(std::int32_t peer, std::size_t size_bytes) {
  Letter& letter = letters_->emplace_back(Letter{peer, {}, std::vector<std::byte>(size_bytes)});
  received_.push_back(&letter.bytes);
  return transport_->recv(peer, tag_, letter.bytes.data(), size_bytes, &letter.request);
}

Status Mail::wait() const {
  const auto is_pending = [](const Letter& letter) { return letter.request.pending(); };
  while (std::any_of(letters_->begin(), letters_->end(), is_pending)) {
    if (transport_->progress()) continue;
    RESHARD_TRY(transport_->health());
    RESHARD_TRY(check_departed());
    if (deadline_.expired()) {
      return {RESHARD_ERR_TIMEOUT, fmt::format("memory keys were not exchanged within {} us", deadline_.timeout_us())};
    }
    transport_->idle();
  }
  const auto has_failed = [](const Letter& letter) { return letter.request.failed(); };
  if (std::none_of(letters_->begin(), letters_->end(), has_failed)) return {};
  return {RESHARD_ERR_TRANSPORT, "exchanging memory keys failed in the transport"};
}

/// No rank leaves before the vote that ends a bind, unless it has given the bind up.
Status Mail::check_departed() const {
  for (const std::int32_t rank : transport_->departed()) {
    const auto is_awaited = [rank](const Letter& letter) { return letter.peer == rank && letter.request.pending(); };
    if (std::none_of(letters_->begin(), letters_->end(), is_awaited)) continue;
    return {RESHARD_ERR_PEER_FAILED, fmt::format("rank {} left while memory keys were exchanged", rank)};
  }
  return {};
}

}  // namespace reshard
