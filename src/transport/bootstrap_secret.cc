// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/bootstrap_secret.h"

#include <sys/random.h>

#include <bit>
#include <cstring>

namespace reshard {
namespace {

// The state of SipHash, in the names of its publication: four words, mixed by additions, rotations and exclusive ors.
// The constants are its own too, the text "somepseudorandomlygeneratedbytes". It is made for short messages and a key
// that nobody knows, and small enough to stand here; a hash of a cryptographic library would be a dependency for these
// bytes.
class SipState {
 public:
  explicit SipState(const Secret& secret)
      : v0_(secret.words[0] ^ 0x736f6d6570736575),
        v1_(secret.words[1] ^ 0x646f72616e646f6d),
        v2_(secret.words[0] ^ 0x6c7967656e657261),
        v3_(secret.words[1] ^ 0x7465646279746573) {}

  void absorb(std::uint64_t word) {
    v3_ ^= word;
    mix(2);
    v0_ ^= word;
  }
  std::uint64_t finish() {
    v2_ ^= 0xff;
    mix(4);
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  void mix(int num_rounds) {
    for (int i = 0; i < num_rounds; ++i) {
      v0_ += v1_;
      v1_ = std::rotl(v1_, 13) ^ v0_;
      v0_ = std::rotl(v0_, 32);
      v2_ += v3_;
      v3_ = std::rotl(v3_, 16) ^ v2_;
      v0_ += v3_;
      v3_ = std::rotl(v3_, 21) ^ v0_;
      v2_ += v1_;
      v1_ = std::rotl(v1_, 17) ^ v2_;
      v2_ = std::rotl(v2_, 32);
    }
  }

  std::uint64_t v0_, v1_, v2_, v3_;
};

// Up to 256 bytes come whole or not at all, so a short answer needs no second call.
template <typename T>
Result<T> random_value() {
  T value{};
  if (getrandom(&value, sizeof(value), 0) == sizeof(value)) return value;
  return Status(RESHARD_ERR_INTERNAL, "the kernel gave no random number");
}

}  // namespace

std::uint64_t keyed_hash(const Secret& secret, std::span<const std::byte> bytes) {
  SipState state(secret);
  constexpr std::size_t kWordBytes = sizeof(std::uint64_t);
  std::size_t offset = 0;
  std::uint64_t word = 0;
  // Words in the byte order of the machine, which is the same on all ranks (channel.cc).
  for (; bytes.size() - offset >= kWordBytes; offset += kWordBytes) {
    std::memcpy(&word, bytes.data() + offset, kWordBytes);
    state.absorb(word);
  }
  // The last word holds what is left, and the length in its top byte, so that trailing zeros count.
  word = static_cast<std::uint64_t>(bytes.size()) << 56;
  for (std::size_t i = 0; offset + i < bytes.size(); ++i) {
    word |= std::to_integer<std::uint64_t>(bytes[offset + i]) << (8 * i);
  }
  state.absorb(word);
  return state.finish();
}

Result<Secret> random_secret() {
  return random_value<Secret>();
}

Result<std::uint64_t> random_nonce() {
  return random_value<std::uint64_t>();
}

Secret secret_from_text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {{keyed_hash({{1, 0}}, bytes), keyed_hash({{2, 0}}, bytes)}};  // two keys: two halves that tell apart
}

}  // namespace reshard
