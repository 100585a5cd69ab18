// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// A layout comes back from its bytes as it was; bytes that are none are refused, whatever they are.

#include "src/layout/serialize.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "src/base/hasher.h"
#include "tests/unit/layout/random_layout.h"

namespace reshard {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::int32_t kSavedRanks = 4;
constexpr std::size_t kChecksumBytes = 8;
constexpr std::int64_t kNumChecksum = 8;

/// Placements of both kinds of shared buffers, explicit blocks and flat ranges, and sometimes ranks that left.
ModelLayout random_layout() {
  ModelLayout layout(kSavedRanks);
  const std::int64_t shared = layout.add_offset_buffer("all");
  const std::int64_t own = *layout.add_rank_buffer(2, "own", 4096);
  for (std::int64_t t = 0; t < random(0, 3); ++t) {
    const oracle::Indices shape = oracle::random_shape(3, 5);
    const DType dtype = *rc::gen::element(DType::kU8, DType::kBF16, DType::kF64);
    const std::int64_t tensor = *layout.add_tensor({"t" + std::to_string(t), dtype, shape, random(-3, 3)});
    for (std::int64_t n = random(0, 2); n > 0; --n) {
      Placement placement = oracle::random_placement(shape, kSavedRanks).placement;
      const bool is_shared = random(0, 1) == 1;
      placement.buffer = is_shared ? shared : layout.add_buffer("t", dtype);
      placement.offset_bytes = is_shared ? random(0, 1000) : 0;
      RC_ASSERT(layout.place(tensor, placement).ok());
    }
    RC_ASSERT(layout.add_flat_range(2, tensor, 0, whole_box(shape).num_elements(), own, random(0, 8)).ok());
  }
  if (random(0, 3) == 0) RC_ASSERT(layout.remove_ranks({2}).ok());
  if (random(0, 2) == 0) {
    const std::int64_t weight = *layout.add_tensor({"weight", DType::kF8E4M3, {random(0, 9), 40}, 0});
    const std::int64_t scales =
        *layout.add_tensor({"scales", DType::kF8E8M0, {at(layout.tensors(), weight).shape[0], 2}, 0});
    RC_ASSERT(layout.set_scales(weight, {ScaleKind::kMxfp8, scales}).ok());
  }
  return layout;
}

void check_equal(const Block& a, const Block& b) {
  RC_ASSERT(a.kind == b.kind);
  RC_ASSERT((a.tensor == b.tensor && a.buffer == b.buffer));
  RC_ASSERT(a.box == b.box);
  RC_ASSERT((a.local_begin == b.local_begin && a.offset_bytes == b.offset_bytes));
  RC_ASSERT(a.strides_bytes == b.strides_bytes);
}

RC_GTEST_PROP(SerializeTest, ALayoutComesBackAsItWas, ()) {
  const ModelLayout layout = random_layout();
  const Result<ModelLayout> read = deserialize(serialize(layout));
  RC_ASSERT(read.ok());
  RC_ASSERT(read->digest() == layout.digest());
  RC_ASSERT(serialize(*read) == serialize(layout));
  RC_ASSERT(read->tensors().size() == layout.tensors().size());
  for (std::int32_t rank = 0; rank < kSavedRanks; ++rank) {
    RC_ASSERT(read->buffers_of(rank) == layout.buffers_of(rank));
    for (const std::int64_t buffer : layout.buffers_of(rank)) {
      RC_ASSERT(read->buffer_size_bytes(rank, buffer) == layout.buffer_size_bytes(rank, buffer));
      RC_ASSERT(at(read->buffers(), buffer).by_offset == at(layout.buffers(), buffer).by_offset);
    }
    for (std::int64_t t = 0; t < std::ssize(layout.tensors()); ++t) {
      RC_ASSERT(read->scales(t) == layout.scales(t));
      const std::vector<Block> blocks = layout.blocks(rank, t);
      const std::vector<Block> again = read->blocks(rank, t);
      RC_ASSERT(again.size() == blocks.size());
      for (std::size_t i = 0; i < blocks.size(); ++i) check_equal(again[i], blocks[i]);
    }
  }
}

TEST(SerializeTest, WhatIsSharedStaysShared) {
  ModelLayout layout(2);
  Placement placement;
  placement.mesh = *Mesh::create({{"x", 2}}, {1, 0});
  Split halves;
  halves.num_parts = 2;
  placement.dims = {{std::make_shared<const DimMap>(*make_dim_map(8, {halves})), {0}}};
  for (const char* name : {"a", "b"}) {
    placement.buffer = layout.add_buffer(name, DType::kF32);
    ASSERT_TRUE(layout.place(*layout.add_tensor({name, DType::kF32, {8}, 0}), placement).ok());
  }
  const Result<ModelLayout> read = deserialize(serialize(layout));
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->placements(0)[0].mesh, read->placements(1)[0].mesh);
  EXPECT_EQ(read->placements(0)[0].dims[0].map, read->placements(1)[0].dims[0].map);
}

TEST(SerializeTest, BytesAreTheSameOnEveryMachine) {
  ModelLayout layout(300);
  EXPECT_TRUE(layout.add_tensor({"w", DType::kF32, {300}, -1}).ok());
  const Bytes bytes = serialize(layout);
  const std::vector<int> begin = {'R', 'E', 'S', 'H', 'A', 'R', 'D', 'L', 2, 0xD8, 4, 0, 0, 0, 2, 2, 'w', 24, 1, 2};
  ASSERT_GE(bytes.size(), begin.size());
  for (std::size_t i = 0; i < begin.size(); ++i) EXPECT_EQ(std::to_integer<int>(bytes[i]), begin[i]) << i;
}

/// The bytes with a checksum that fits them, so that the reader looks at what is changed in them.
Bytes seal(Bytes bytes) {
  if (bytes.size() < kChecksumBytes) return bytes;
  const std::size_t end = bytes.size() - kChecksumBytes;
  Hasher hasher;
  hasher.add_all(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(end)));
  std::uint64_t sum = hasher.digest();
  for (std::size_t i = 0; i < kChecksumBytes; ++i, sum >>= 8) bytes[end + i] = static_cast<std::byte>(sum & 0xFF);
  return bytes;
}

/// A byte that begins, ends or continues a number: small ones, and pieces of the largest.
std::byte random_byte() {
  return static_cast<std::byte>(*rc::gen::element(0, 1, 2, 3, 4, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF));
}

void mutate(Bytes* bytes) {
  const auto place = bytes->begin() + random(8, std::ssize(*bytes) - kNumChecksum - 1);
  switch (random(0, 3)) {
    case 0:
      *place = random_byte();
      break;
    case 1:
      bytes->erase(place);
      break;
    case 2:
      bytes->insert(place, random_byte());
      break;
    default:
      bytes->insert(place, static_cast<std::size_t>(random(1, 9)), std::byte{0xFF});
      break;
  }
}

/// Every answer that is taken from a layout whose bytes were changed stays within its buffers.
void walk(const ModelLayout& layout) {
  for (std::int64_t t = 0; t < std::ssize(layout.tensors()); ++t) {
    const std::int64_t element_bytes = size_bytes(at(layout.tensors(), t).dtype);
    for (const std::int32_t rank : {0, 1, 2, 3}) {
      for (const Block& block : layout.blocks(rank, t)) {
        std::int64_t low = block.offset_bytes;
        std::int64_t high = block.offset_bytes + element_bytes;
        for (int d = 0; d < block.box.num_dims; ++d) {
          const std::int64_t reach = (block.box.extent(d) - 1) * block.strides_bytes[d];
          (reach < 0 ? low : high) += reach;
        }
        RC_ASSERT((low >= 0 && high <= layout.buffer_size_bytes(rank, block.buffer)));
      }
    }
  }
  RC_ASSERT(deserialize(serialize(layout)).ok());
}

void check_read_or_refused(const Bytes& bytes) {
  const Result<ModelLayout> read = deserialize(bytes);
  if (read.ok()) {
    walk(*read);
  } else {
    RC_ASSERT(!read.status().message().empty());
    RC_ASSERT(read.status().message().size() < 2000U);
  }
}

RC_GTEST_PROP(SerializeTest, ChangedBytesAreReadOrRefused, ()) {
  Bytes bytes = serialize(random_layout());
  for (std::int64_t n = random(1, 3); n > 0; --n) mutate(&bytes);
  check_read_or_refused(seal(std::move(bytes)));
}

RC_GTEST_PROP(SerializeTest, TruncatedAndRandomBytesAreReadOrRefused, ()) {
  Bytes bytes = serialize(random_layout());
  bytes.resize(static_cast<std::size_t>(random(0, std::ssize(bytes))));
  if (random(0, 1) == 1) {
    for (std::size_t i = 9; i < bytes.size(); ++i) bytes[i] = random_byte();
  }
  check_read_or_refused(seal(std::move(bytes)));
}

void expect_refused(const Bytes& bytes, reshard_status_t code, const std::string& part) {
  const Result<ModelLayout> read = deserialize(bytes);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.status().code(), code);
  EXPECT_NE(read.status().message().find(part), std::string::npos) << read.status().message();
}

TEST(SerializeTest, DamageIsToldFromAnotherFormatAndFromOtherBytes) {
  ModelLayout layout(2);
  EXPECT_TRUE(layout.add_tensor({"w", DType::kF32, {3}, 0}).ok());
  const Bytes good = serialize(layout);
  expect_refused({}, RESHARD_ERR_INVALID_ARGUMENT, "0 bytes");
  expect_refused(Bytes(100), RESHARD_ERR_INVALID_ARGUMENT, "begin");
  for (std::size_t i = 9; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= std::byte{1};
    expect_refused(bad, RESHARD_ERR_INVALID_ARGUMENT, "checksum");
  }
  Bytes newer = good;
  newer[8] = std::byte{6};
  expect_refused(newer, RESHARD_ERR_NOT_SUPPORTED, "format 3");
  Bytes longer = good;
  longer.insert(longer.end(), std::byte{0});
  expect_refused(seal(longer), RESHARD_ERR_INVALID_ARGUMENT, "behind the last tensor");
}

/// One tensor cut in halves, in a buffer that placements share or one of its own, with padding of its own or without.
Bytes with_choices(bool by_offset, bool owns_padding) {
  ModelLayout layout(2);
  Split halves;
  halves.num_parts = 2;
  DimMap map = *make_dim_map(8, {halves});
  map.owns_padding = owns_padding;
  Placement placement;
  placement.mesh = *Mesh::create({{"x", 2}}, {1, 0});
  placement.dims = {{std::make_shared<const DimMap>(map), {0}}};
  placement.buffer = by_offset ? layout.add_offset_buffer("all") : layout.add_buffer("all", DType::kU8);
  EXPECT_TRUE(layout.place(*layout.add_tensor({"w", DType::kU8, {8}, 0}), placement).ok());
  return serialize(layout);
}

TEST(SerializeTest, AChoiceThatIsNeitherYesNorNoIsRefused) {
  const Bytes neither = with_choices(false, false);
  for (const Bytes& one : {with_choices(true, false), with_choices(false, true)}) {
    ASSERT_EQ(one.size(), neither.size());
    std::size_t num_choices = 0;
    for (std::size_t i = 0; i + kChecksumBytes < one.size(); ++i) {
      // Numbers that are not negative stand there doubled.
      if (one[i] != std::byte{2} || neither[i] != std::byte{0}) continue;
      ++num_choices;
      Bytes bad = one;
      bad[i] = std::byte{4};
      expect_refused(seal(bad), RESHARD_ERR_INVALID_ARGUMENT, "");
    }
    EXPECT_EQ(num_choices, 1);
  }
}

TEST(SerializeTest, HugeCountsMakeRoomForNothing) {
  // After the ranks: 2^62 of whatever comes next, at each of the four lists. A reader that believed one would not
  // return.
  const Bytes good = serialize(ModelLayout(2));
  const Bytes huge = {std::byte{0x80}, std::byte{0x80}, std::byte{0x80}, std::byte{0x80}, std::byte{0x80},
                      std::byte{0x80}, std::byte{0x80}, std::byte{0x80}, std::byte{0x80}, std::byte{0x01}};
  for (std::ptrdiff_t list = 0; list < 4; ++list) {
    Bytes bad = good;
    const auto place = bad.begin() + 10 + list;
    bad.insert(bad.erase(place), huge.begin(), huge.end());
    expect_refused(seal(bad), RESHARD_ERR_INVALID_ARGUMENT, "does not fit");
  }
}

}  // namespace
}  // namespace reshard
