// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>

#include "src/transport/bootstrap_secret.h"
#include "src/transport/channel.h"

namespace reshard {

// How a rank and rank 0 prove to each other that they belong to one job, without showing the secret to a stranger:
//
//   rank -> 0   Hello      who I am, and a number that I drew
//   0 -> rank   Challenge  a number that I drew, and the hash of both that only the secret gives
//   rank -> 0   Proof      the hash again, for the other direction
//   0 -> rank   Welcome, or a Failure that says why not
//
// A rank believes nothing, not even a Failure, before the Challenge is right; rank 0 changes nothing before the Proof
// is right. What follows on the connection is neither authenticated nor encrypted.

struct Hello {
  std::uint64_t nonce = 0;  ///< drawn by the rank
  std::int32_t rank = 0;
  std::int32_t num_ranks = 0;  ///< that the rank was told; rank 0 compares it with its own
};

struct Challenge {
  std::uint64_t nonce = 0;  ///< drawn by rank 0
  std::uint64_t proof = 0;
};

/// The longest payload of the handshake's own frames. Whoever sends more before his proof is dropped.
inline constexpr std::size_t kMostHandshakeBytes = 64;

enum class Prover : std::uint8_t { kRankZero = 1, kOtherRank = 2 };
std::uint64_t proof_of(Prover prover, const Secret& secret, const Hello& hello, std::uint64_t root_nonce);

Frame hello_frame(const Hello& hello);
Frame challenge_frame(const Secret& secret, const Hello& hello, std::uint64_t root_nonce);
Frame proof_frame(std::uint64_t proof);

/// Empty: the frame is not this one, or makes no sense.
std::optional<Hello> read_hello(const Frame& frame);
std::optional<Challenge> read_challenge(const Frame& frame);
std::optional<std::uint64_t> read_proof(const Frame& frame);

}  // namespace reshard
