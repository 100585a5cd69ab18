// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The readers of what comes over a connection of the bootstrap, given anything at all; the sanitizers watch.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

#include "src/transport/tcp_handshake.h"
#include "src/transport/tcp_star.h"
#ifdef RESHARD_HAVE_UCX
#include "src/transport/ucx_address.h"
#endif

namespace reshard::test {
namespace {

// Two ends of a connection; the second reads frames of up to max_payload_bytes.
struct Pipe {
  explicit Pipe(std::size_t max_payload_bytes) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    writer = Fd(ends[0]);
    reader = std::make_unique<Channel>(Fd(ends[1]), max_payload_bytes);
  }
  Fd writer;
  std::unique_ptr<Channel> reader;
};

std::vector<Frame> frames_of_every_kind() {
  return {hello_frame({1, 2, 3}),
          challenge_frame({{1, 2}}, {1, 2, 3}, 4),
          proof_frame(5),
          {FrameType::kFailure, 6, encode_failure(invalid_argument("a text"))},
          {FrameType::kResult, 7, pack_blobs({Blob(3), Blob(), Blob(100)})},
          {FrameType::kDeparture, 8, encode_ranks({1, 2, 100})},
          {FrameType::kGoodbye, 9, {}}};
}

// Hands a frame to all who read payloads; whatever they return must make sense.
void read_everything(const Frame& frame) {
  constexpr std::int32_t kNumRanks = 3;
  if (const auto hello = read_hello(frame)) {
    EXPECT_TRUE(hello->rank >= 1 && hello->rank < hello->num_ranks);
  }
  read_challenge(frame);
  read_proof(frame);
  EXPECT_FALSE(decode_failure(frame.payload).ok());
  for (const std::int32_t rank : decode_ranks(frame.payload, kNumRanks)) EXPECT_TRUE(rank >= 0 && rank < kNumRanks);
  if (const auto blobs = unpack_blobs(frame.payload, kNumRanks); blobs.ok()) {
    EXPECT_EQ(blobs->size(), static_cast<std::size_t>(kNumRanks));
  }
}

TEST(FramesTest, ReadersStandAnyBytes) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::vector<Frame> kinds = frames_of_every_kind();
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes;
    for (std::uint32_t n = 0; n < 1 + random() % 3; ++n) {
      const EncodedFrame encoded = encode(kinds[random() % kinds.size()]);
      bytes.insert(bytes.end(), encoded->begin(), encoded->end());
    }
    // Single bytes, whole words at their extremes, and a cut.
    for (std::uint32_t n = random() % 4; n > 0; --n) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    if (random() % 3 == 0) {
      const std::uint64_t extremes[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
      const std::uint64_t word = extremes[random() % std::size(extremes)];
      const std::size_t size_bytes = random() % 2 == 0 ? 4 : 8;
      if (bytes.size() > 8) std::memcpy(&bytes[random() % (bytes.size() - 8)], &word, size_bytes);
    }
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    Pipe pipe(random() % 2 == 0 ? kMostHandshakeBytes : std::size_t{1} << 20);
    EXPECT_EQ(send(pipe.writer.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    pipe.writer.reset();
    for (int turn = 0; turn < 100 && !pipe.reader->closed(); ++turn) {
      pipe.reader->pump();
      while (const Frame* frame = pipe.reader->front()) {
        read_everything(*frame);
        pipe.reader->pop();
      }
    }
    EXPECT_TRUE(pipe.reader->closed());
  }
}

TEST(FramesTest, FailureWithoutAnErrorsCodeIsAnErrorOfItsOwn) {
  for (const std::int32_t code : {0, 1, -7, INT32_MIN, INT32_MAX}) {
    Blob payload(sizeof(code));
    std::memcpy(payload.data(), &code, sizeof(code));
    const Status status = decode_failure(payload);
    EXPECT_EQ(status.code(), RESHARD_ERR_TRANSPORT);
    EXPECT_NE(status.message().find(std::to_string(code)), std::string::npos) << status.message();
  }
  EXPECT_EQ(decode_failure({}).code(), RESHARD_ERR_TRANSPORT);
  const Status timeout = decode_failure(encode_failure({RESHARD_ERR_TIMEOUT, "why"}));
  EXPECT_EQ(timeout.code(), RESHARD_ERR_TIMEOUT);
  EXPECT_EQ(timeout.message(), "why");
}

TEST(FramesTest, ChannelTakesInNoMoreThanTheLargestFrame) {
  Pipe pipe(kMostHandshakeBytes);
  const std::vector<std::byte> bytes(100'000);
  const ssize_t sent = send(pipe.writer.get(), bytes.data(), bytes.size(), 0);
  ASSERT_GT(sent, 10'000);
  pipe.reader->pump();
  int unread = 0;
  std::vector<std::byte> rest(bytes.size());
  unread = static_cast<int>(recv(pipe.reader->fd(), rest.data(), rest.size(), MSG_PEEK));
  EXPECT_GT(unread, sent - 200);
}

#ifdef RESHARD_HAVE_UCX
TEST(FramesTest, OnlyWhatWasSealedIsAWorkerAddress) {
  Blob address;
  for (int i = 0; i < 50; ++i) address.push_back(static_cast<std::byte>(i));
  const Blob sealed = seal_address(address);
  const auto opened = open_address(sealed, 3);
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(*opened, address);
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    Blob damaged = sealed;
    damaged[i] ^= std::byte{1};
    EXPECT_EQ(open_address(damaged, 3).status().code(), RESHARD_ERR_TRANSPORT) << i;
    EXPECT_FALSE(open_address({sealed.begin(), sealed.begin() + static_cast<std::ptrdiff_t>(i)}, 3).ok()) << i;
  }
  EXPECT_NE(open_address(Blob(100), 3).status().message().find("rank 3"), std::string::npos);
}
#endif

// Test vectors of the published reference: key 00 01 .. 0f, input 00 01 .. of 0, 8 and 15 bytes.
TEST(SecretTest, HashIsSipHash) {
  const Secret key{{0x0706050403020100, 0x0f0e0d0c0b0a0908}};
  std::vector<std::byte> input;
  for (int i = 0; i < 15; ++i) input.push_back(static_cast<std::byte>(i));
  EXPECT_EQ(keyed_hash(key, std::span(input).first(0)), 0x726fdb47dd0e0e31U);
  EXPECT_EQ(keyed_hash(key, input), 0xa129ca6149be45e5U);
}

TEST(SecretTest, ProofsDependOnEverything) {
  const Secret secret{{1, 2}};
  const Hello hello{3, 4, 5};
  const std::uint64_t proof = proof_of(Prover::kOtherRank, secret, hello, 6);
  EXPECT_NE(proof, proof_of(Prover::kRankZero, secret, hello, 6));
  EXPECT_NE(proof, proof_of(Prover::kOtherRank, {{1, 3}}, hello, 6));
  EXPECT_NE(proof, proof_of(Prover::kOtherRank, secret, {2, 4, 5}, 6));
  EXPECT_NE(proof, proof_of(Prover::kOtherRank, secret, {3, 3, 5}, 6));
  EXPECT_NE(proof, proof_of(Prover::kOtherRank, secret, {3, 4, 6}, 6));
  EXPECT_NE(proof, proof_of(Prover::kOtherRank, secret, hello, 7));
}

}  // namespace
}  // namespace reshard::test
