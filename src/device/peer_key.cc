// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/peer_key.h"

#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include <fmt/format.h>

#include "src/base/bytes.h"

namespace reshard {
namespace {

constexpr std::int64_t kMagic = 0x31796b6d64687372;  // also the version of what follows

void add_handles(const PeerKey& key, ByteWriter* writer) {
  writer->add(static_cast<std::int64_t>(key.kind));
  writer->add(key.host);
  writer->add(key.process);
  writer->add(key.server);
  writer->add(static_cast<std::int64_t>(key.pieces.size()));
  for (const PeerPiece& piece : key.pieces) {
    writer->add(piece.handle);
    writer->add(piece.descriptor);
    writer->add(piece.size_bytes);
  }
}

std::string random_text() {
  std::array<unsigned char, 16> random{};
  std::string text;
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) random = {};
  for (const unsigned char byte : random) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace

std::vector<std::byte> PeerKey::bytes() const {
  ByteWriter writer;
  writer.add(kMagic);
  add_handles(*this, &writer);
  writer.add(address);
  writer.add(size_bytes);
  writer.add(offset);
  writer.add(device);
  return writer.take();
}

std::vector<std::byte> PeerKey::handles() const {
  ByteWriter writer;
  add_handles(*this, &writer);
  return writer.take();
}

std::optional<PeerKey> PeerKey::parse(const std::vector<std::byte>& bytes) {
  ByteReader reader(bytes);
  if (reader.number() != kMagic) return std::nullopt;
  PeerKey key;
  const std::int64_t kind = reader.number();
  if (kind <= 0 || kind > static_cast<std::int64_t>(PeerKeyKind::kFabric)) return std::nullopt;
  key.kind = static_cast<PeerKeyKind>(kind);
  key.host = reader.text();
  key.process = reader.text();
  key.server = reader.text();
  const std::int64_t num_pieces = reader.number();
  for (std::int64_t index = 0; index < num_pieces && reader.ok(); ++index) {
    PeerPiece piece;
    piece.handle = reader.blob();
    piece.descriptor = reader.number();
    piece.size_bytes = reader.number();
    key.pieces.push_back(std::move(piece));
  }
  key.address = reader.number();
  key.size_bytes = reader.number();
  key.offset = reader.number();
  key.device = reader.number();
  return reader.ok() ? std::optional<PeerKey>(std::move(key)) : std::nullopt;
}

const char* peer_key_kind_name(PeerKeyKind kind) {
  switch (kind) {
    case PeerKeyKind::kNone:
      return "none";
    case PeerKeyKind::kProcess:
      return "process";
    case PeerKeyKind::kIpc:
      return "ipc";
    case PeerKeyKind::kDescriptors:
      return "descriptors";
    case PeerKeyKind::kFabric:
      return "fabric";
  }
  return "unknown";
}

PeerKeyKind peer_key_kind(const std::vector<std::byte>& key) {
  const std::optional<PeerKey> parsed = PeerKey::parse(key);
  return parsed ? parsed->kind : PeerKeyKind::kNone;
}

const std::string& this_host() {
  static const std::string text = [] {
    std::string line;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), line);
    return line.empty() ? random_text() : line;  // not known: nobody is on the same host
  }();
  return text;
}

const std::string& this_process() {
  static const std::string text = fmt::format("{}-{}", getpid(), random_text());
  return text;
}

}  // namespace reshard
