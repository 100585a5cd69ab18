// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Payloads are the structs themselves, byte by byte: both ends run on machines of one byte order, which the magic
// number of every frame checks.
#include "src/transport/tcp_handshake.h"

#include <cstring>
#include <type_traits>

namespace reshard {
namespace {

template <typename T>
Frame frame_of(FrameType type, const T& content) {
  // Padding would carry bytes of this process's memory to a stranger, and would make equal structs hash differently.
  static_assert(std::has_unique_object_representations_v<T> && sizeof(T) <= kMostHandshakeBytes);
  Frame frame{type, 0, std::vector<std::byte>(sizeof(content))};
  std::memcpy(frame.payload.data(), &content, sizeof(content));
  return frame;
}

template <typename T>
std::optional<T> content_of(FrameType type, const Frame& frame) {
  T content;
  if (frame.type != type || frame.payload.size() != sizeof(content)) return std::nullopt;
  std::memcpy(&content, frame.payload.data(), sizeof(content));
  return content;
}

}  // namespace

std::uint64_t proof_of(Prover prover, const Secret& secret, const Hello& hello, std::uint64_t root_nonce) {
  // Both numbers, so that neither end can be made to repeat an old proof, and the prover, so that none can be sent
  // back.
  struct {
    std::uint64_t prover, root_nonce;
    Hello hello;
  } const content{static_cast<std::uint64_t>(prover), root_nonce, hello};
  return keyed_hash(secret, std::as_bytes(std::span(&content, 1)));
}

Frame hello_frame(const Hello& hello) {
  return frame_of(FrameType::kHello, hello);
}

Frame challenge_frame(const Secret& secret, const Hello& hello, std::uint64_t root_nonce) {
  return frame_of(FrameType::kChallenge, Challenge{root_nonce, proof_of(Prover::kRankZero, secret, hello, root_nonce)});
}

Frame proof_frame(std::uint64_t proof) {
  return frame_of(FrameType::kProof, proof);
}

// A stranger's words as yet: only numbers that no rank could have are refused here. Whether they fit this job is judged
// after the proof.
std::optional<Hello> read_hello(const Frame& frame) {
  const auto hello = content_of<Hello>(FrameType::kHello, frame);
  if (!hello || hello->rank < 1 || hello->rank >= hello->num_ranks) return std::nullopt;
  return hello;
}

std::optional<Challenge> read_challenge(const Frame& frame) {
  return content_of<Challenge>(FrameType::kChallenge, frame);
}

std::optional<std::uint64_t> read_proof(const Frame& frame) {
  return content_of<std::uint64_t>(FrameType::kProof, frame);
}

}  // namespace reshard
