// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Keeps strangers out of a job: another job that was given the same port, a scanner, a user of the same machine. It is
// not made to keep a person out who can read the connections; what travels after the handshake is not encrypted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "src/base/status.h"

namespace reshard {

/// What the ranks of one job know and nobody else should: whoever joins proves that he knows it, and it never travels
/// over the connections of the rendezvous. Plain bytes, so that it fits into a unique id.
struct Secret {
  std::array<std::uint64_t, 2> words{};
  bool operator==(const Secret&) const = default;
};

/// A new one that nobody can guess, from the kernel.
Result<Secret> random_secret();

/// A random number that was never used before, so that an answer recorded once proves nothing later.
Result<std::uint64_t> random_nonce();

/// The secret that every rank computes from the same text; as hard to guess as the text.
Secret secret_from_text(std::string_view text);

/// SipHash-2-4: 64 bits that only somebody who knows the secret can compute for these bytes. It is the hash to use
/// where others choose the bytes; the library's other hashes are faster, and anybody can invert them.
std::uint64_t keyed_hash(const Secret& secret, std::span<const std::byte> bytes);

}  // namespace reshard
