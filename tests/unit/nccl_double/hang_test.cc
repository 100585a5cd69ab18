// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Groups that NCCL would hang on hang here, and those that it would not do not: random exchanges between eight ranks,
// in one group each, and in groups that fit a kernel.
#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "tests/unit/nccl_double/ranks.h"

namespace reshard::testing {
namespace {

constexpr int kNumRanks = 8;
constexpr std::size_t kMessageBytes = 48;

struct Message {
  int from;
  int to;
  std::size_t group;  // which of the exchange's groups, on both ends
};

/// Every rank sends to and receives from others, some much and some little.
std::vector<Message> random_exchange(std::uint64_t seed, std::uint64_t scale) {
  std::mt19937_64 random(seed);
  std::vector<Message> messages;
  for (int from = 0; from < kNumRanks; ++from) {
    for (int to = 0; to < kNumRanks; ++to) {
      if (from == to || random() % 3 == 0) continue;
      const std::uint64_t count = random() % 2 == 0 ? random() % 4 : random() % (60 * scale);
      messages.insert(messages.end(), count, Message{from, to, 0});
    }
  }
  std::shuffle(messages.begin(), messages.end(), random);
  return messages;
}

/// Each message into the first group in which both ends have room, behind those of the same pair.
std::size_t split(std::vector<Message>* messages, std::size_t most_operations) {
  std::map<std::pair<int, std::size_t>, std::size_t> load;
  std::map<std::pair<int, int>, std::size_t> last;
  std::size_t num_groups = 0;
  for (Message& message : *messages) {
    std::size_t group = last[{message.from, message.to}];
    while (load[{message.from, group}] >= most_operations || load[{message.to, group}] >= most_operations) ++group;
    last[{message.from, message.to}] = message.group = group;
    ++load[{message.from, group}];
    ++load[{message.to, group}];
    num_groups = std::max(num_groups, group + 1);
  }
  return num_groups;
}

/// All messages, each with bytes of its own.
class Exchange {
 public:
  explicit Exchange(const std::vector<Message>& messages) : messages_(messages) {
    for (int rank = 0; rank < kNumRanks; ++rank) {
      const auto count = [&](auto member) {
        return static_cast<std::size_t>(
            std::count_if(messages.begin(), messages.end(), [&](const Message& m) { return m.*member == rank; }));
      };
      out_.push_back(std::make_unique<Bytes>(rank, count(&Message::from) * kMessageBytes + 1));
      in_.push_back(std::make_unique<Bytes>(rank, count(&Message::to) * kMessageBytes + 1));
      out_.back()->put(random_bytes(out_.back()->size(), static_cast<std::uint64_t>(rank)));
    }
  }

  cudaError_t run(Ranks* ranks, std::size_t num_groups) {
    for (std::size_t group = 0; group < num_groups; ++group) {
      EXPECT_EQ(ncclGroupStart(), ncclSuccess);
      std::map<std::pair<bool, int>, std::size_t> next;
      for (const Message& message : messages_) {
        Rank& from = (*ranks)[message.from];
        Rank& to = (*ranks)[message.to];
        std::byte* const out = at(out_, message.from, &next[{true, message.from}]);
        std::byte* const in = at(in_, message.to, &next[{false, message.to}]);
        if (message.group != group) continue;
        EXPECT_EQ(ncclSend(out, kMessageBytes, ncclInt8, message.to, from.comm, from.stream), ncclSuccess);
        EXPECT_EQ(ncclRecv(in, kMessageBytes, ncclInt8, message.from, to.comm, to.stream), ncclSuccess);
      }
      EXPECT_EQ(ncclGroupEnd(), ncclSuccess);
    }
    return ranks->synchronize();
  }

  /// Whether every message is what was sent.
  bool is_right() const {
    std::vector<std::vector<std::uint8_t>> out;
    std::vector<std::vector<std::uint8_t>> in;
    for (const auto& bytes : out_) out.push_back(bytes->get());
    for (const auto& bytes : in_) in.push_back(bytes->get());
    std::map<std::pair<bool, int>, std::size_t> next;
    return std::all_of(messages_.begin(), messages_.end(), [&](const Message& message) {
      const std::uint8_t* const sent = at(out, message.from, &next[{true, message.from}]);
      const std::uint8_t* const received = at(in, message.to, &next[{false, message.to}]);
      return std::equal(sent, sent + kMessageBytes, received);
    });
  }

 private:
  static std::uint8_t* at(std::vector<std::vector<std::uint8_t>>& buffers, int rank, std::size_t* next) {
    return buffers[static_cast<std::size_t>(rank)].data() + kMessageBytes * (*next)++;
  }
  static std::byte* at(const std::vector<std::unique_ptr<Bytes>>& buffers, int rank, std::size_t* next) {
    return buffers[static_cast<std::size_t>(rank)]->data() + kMessageBytes * (*next)++;
  }
  const std::vector<Message> messages_;
  std::vector<std::unique_ptr<Bytes>> out_;
  std::vector<std::unique_ptr<Bytes>> in_;
};

struct Channels {
  int per_peer;
  int per_operation;
};

/// Of so many seeds, how many hang.
class HangTest : public NcclDoubleTest {
 protected:
  /// most_operations: of a group; 0: all in one. Of hangs it looks for no more than `enough`.
  int count_hangs(int version, Channels channels, std::size_t most_operations, std::uint64_t num_seeds,
                  std::uint64_t scale = 1, int enough = 1000) {
    int num_hangs = 0;
    for (std::uint64_t seed = 1; seed <= num_seeds && num_hangs < enough; ++seed) {
      nccl_double_set_version(version);
      nccl_double_set_channels(32, channels.per_peer, channels.per_operation);
      nccl_double_set_deadlock_ms(60);
      nccl_double_seed(seed);
      cuda_double_seed(seed);
      std::vector<Message> messages = random_exchange(seed, scale);
      const std::size_t num_groups = most_operations == 0 ? 1 : split(&messages, most_operations);
      Ranks ranks(kNumRanks);
      Exchange exchange(messages);
      const cudaError_t code = exchange.run(&ranks, num_groups);
      if (code == cudaSuccess) {
        EXPECT_TRUE(exchange.is_right()) << "seed " << seed;
      } else {
        EXPECT_EQ(code, cudaErrorLaunchTimeout) << "seed " << seed;
        ++num_hangs;
        ranks.give_up();
      }
    }
    return num_hangs;
  }
};

TEST_F(HangTest, OneGroupOfEverythingHangsForSomeSeedsByTheOldRuleAndForNoneByTheNew) {
  const int old_rule = count_hangs(22809, {32, 32}, 0, 12);
  EXPECT_GT(nccl_double_count().most_kernels, 1);
  RecordProperty("hangs_by_the_old_rule", old_rule);
  EXPECT_GE(old_rule, 3);
  EXPECT_NE(std::string(nccl_double_last_deadlock()).find("waits for a"), std::string::npos);
  EXPECT_EQ(count_hangs(22907, {32, 32}, 0, 12), 0);
}

TEST_F(HangTest, OperationsThatTakeFewChannelsHangByTheOldRuleToo) {
  nccl_double_set_part(16);  // three of 32 channels
  EXPECT_GE(count_hangs(22809, {32, 32}, 0, 12, 20, 1), 1);
  EXPECT_EQ(count_hangs(22907, {32, 32}, 0, 4, 20), 0);
}

TEST_F(HangTest, GroupsThatFitAKernelNeverHang) {
  // Of 254 batches, as many as may be new for each operation, with room for one on each channel of a peer.
  for (const auto& [channels, most_operations] :
       std::initializer_list<std::tuple<Channels, std::size_t>>{{{32, 32}, 6}, {{8, 8}, 30}, {{32, 4}, 55}}) {
    nccl_double_clear();
    EXPECT_EQ(count_hangs(22809, channels, most_operations, 6), 0);
    EXPECT_EQ(nccl_double_count().most_kernels, 1);
  }
}

}  // namespace
}  // namespace reshard::testing
