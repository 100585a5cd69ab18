// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/bind.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/bytes.h"

namespace reshard {
namespace {

/// Checks one side's buffers against the layout and fills the table.
Status check_buffers(const ModelLayout& layout, const char* side, std::int32_t rank,
                     const std::vector<BoundBuffer>& given, BufferTable* table) {
  table->assign(layout.buffers().size(), nullptr);
  std::vector<bool> is_given(layout.buffers().size());
  const std::vector<std::int64_t> wanted = layout.buffers_of(rank);
  for (const BoundBuffer& buffer : given) {
    if (!std::binary_search(wanted.begin(), wanted.end(), buffer.id)) {
      return invalid_argument(
          fmt::format("{} buffer {} is not one of rank {}; it has {}", side, buffer.id, rank, wanted.size()));
    }
    const std::string& name = at(layout.buffers(), buffer.id).name;
    const std::int64_t needed = layout.buffer_size_bytes(rank, buffer.id);
    if (buffer.size_bytes < needed) {
      return {RESHARD_ERR_BUFFER_TOO_SMALL,
              fmt::format("{} buffer {} (\"{}\") of rank {} has {} bytes; its layout needs {}", side, buffer.id, name,
                          rank, buffer.size_bytes, needed)};
    }
    if (buffer.data == nullptr && needed > 0) {
      return invalid_argument(fmt::format("{} buffer {} (\"{}\") of rank {} is NULL", side, buffer.id, name, rank));
    }
    if (at(is_given, buffer.id)) {
      return invalid_argument(fmt::format("{} buffer {} (\"{}\") is given twice", side, buffer.id, name));
    }
    is_given[static_cast<std::size_t>(buffer.id)] = true;
    at(*table, buffer.id) = buffer.data;
  }
  for (const std::int64_t id : wanted) {
    if (at(is_given, id) || layout.buffer_size_bytes(rank, id) == 0) continue;
    return invalid_argument(
        fmt::format("{} buffer {} (\"{}\") of rank {} is missing", side, id, at(layout.buffers(), id).name, rank));
  }
  return {};
}

/// Destinations must share memory with nothing: a run would read what it has already written.
Status check_disjoint(const BindOptions& options) {
  struct Range {
    const std::byte* begin;
    const std::byte* end;
    const char* side;
    std::int64_t id;
  };
  std::vector<Range> ranges;
  for (const BoundBuffer& b : options.src) ranges.push_back({b.data, b.data + b.size_bytes, "source", b.id});
  for (const BoundBuffer& b : options.dst) ranges.push_back({b.data, b.data + b.size_bytes, "destination", b.id});
  std::erase_if(ranges, [](const Range& range) { return range.begin == range.end; });
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  const Range* furthest = nullptr;              // of all ranges so far
  const Range* furthest_destination = nullptr;  // of the destinations so far
  for (const Range& range : ranges) {
    const bool is_destination = range.side[0] == 'd';
    const Range* other = is_destination ? furthest : furthest_destination;
    if (other != nullptr && other->end > range.begin) {
      return invalid_argument(fmt::format("{} buffer {} overlaps {} buffer {}; a destination shares no memory",
                                          range.side, range.id, other->side, other->id));
    }
    if (furthest == nullptr || range.end > furthest->end) furthest = &range;
    if (is_destination && (furthest_destination == nullptr || range.end > furthest_destination->end)) {
      furthest_destination = &range;
    }
  }
  return {};
}

/// What a rank tells the others before anything else. Memory keys of its source buffers follow.
struct Answer {
  std::int64_t hash = 0;
  std::int64_t code = RESHARD_OK;
  std::string message;
  std::int64_t sequence = 0;
};

Answer read_answer(ByteReader* reader) {
  Answer answer;
  answer.hash = reader->number();
  answer.code = reader->number();
  answer.message = reader->text();
  answer.sequence = reader->number();
  return answer;
}

Status compare(const std::vector<std::vector<std::byte>>& answers, const Answer& mine) {
  for (std::size_t r = 0; r < answers.size(); ++r) {
    ByteReader reader(answers[r]);
    const Answer answer = read_answer(&reader);
    if (!reader.ok()) return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed answer to bind", r)};
    if (answer.code != RESHARD_OK) {
      return {static_cast<reshard_status_t>(answer.code), fmt::format("on rank {}: {}", r, answer.message)};
    }
    if (answer.hash != mine.hash || answer.sequence != mine.sequence) {
      return {
          RESHARD_ERR_PLAN_MISMATCH,
          fmt::format("rank {} has plan {:016x} as its binding {} and this rank plan {:016x} as its binding {}; make "
                      "the plan from the same layouts and options, in the same order, on every rank",
                      r, static_cast<std::uint64_t>(answer.hash), answer.sequence,
                      static_cast<std::uint64_t>(mine.hash), mine.sequence)};
    }
  }
  return {};
}

Status check_arguments(const BindOptions& options, RankMemory* memory) {
  const Plan& plan = *options.plan;
  const std::int32_t rank = options.transport->rank();
  if (options.transport->num_ranks() != plan.num_ranks) {
    return {RESHARD_ERR_LAYOUT_MISMATCH, fmt::format("the plan is for {} ranks and the comm has {}", plan.num_ranks,
                                                     options.transport->num_ranks())};
  }
  RESHARD_TRY(check_buffers(*plan.src, "source", rank, options.src, &memory->src));
  RESHARD_TRY(check_buffers(*plan.dst, "destination", rank, options.dst, &memory->dst));
  return check_disjoint(options);
}

}  // namespace

Result<std::unique_ptr<Binding>> Binding::create(const BindOptions& options) {
  std::unique_ptr<Binding> binding(new Binding());
  binding->plan_ = options.plan;
  binding->transport_ = options.transport;
  std::vector<std::vector<std::byte>> answers;
  RESHARD_TRY(binding->agree(options, check_arguments(options, &binding->memory_), &answers));
  Status mapped = binding->map_peers(answers);

  // Second exchange: whom each rank reads directly, so that the sources send nothing to it.
  ByteWriter mine;
  mine.add(mapped.code());
  mine.add(mapped.message());
  mine.add(static_cast<std::int64_t>(binding->memory_.mapped_src.size()));
  for (const auto& [peer, buffers] : binding->memory_.mapped_src) mine.add(peer);
  RESHARD_TRY(const auto readers, options.transport->allgather(mine.take(), Deadline(options.timeout_us)));
  binding->memory_.read_by.assign(readers.size(), false);
  for (std::size_t r = 0; r < readers.size(); ++r) {
    ByteReader reader(readers[r]);
    const auto code = static_cast<reshard_status_t>(reader.number());
    const std::string message = reader.text();
    if (code != RESHARD_OK) return Status(code, fmt::format("on rank {}: {}", r, message));
    for (std::int64_t i = reader.number(); i > 0 && reader.ok(); --i) {
      if (reader.number() == options.transport->rank()) binding->memory_.read_by[r] = true;
    }
  }
  Binding* self = binding.get();
  RESHARD_TRY(binding->engine_,
              Engine::create([self] { return self->build_flight(); }, options.transport, options.sequence));
  return binding;
}

Status Binding::agree(const BindOptions& options, Status arguments, std::vector<std::vector<std::byte>>* answers) {
  const Answer mine{static_cast<std::int64_t>(plan_->hash), arguments.code(), arguments.message(),
                    static_cast<std::int64_t>(options.sequence)};
  ByteWriter writer;
  writer.add(mine.hash);
  writer.add(mine.code);
  writer.add(mine.message);
  writer.add(mine.sequence);
  writer.add(static_cast<std::int64_t>(options.src.size()));
  for (const BoundBuffer& buffer : options.src) {
    writer.add(buffer.id);
    writer.add(buffer.size_bytes == 0
                   ? MemoryKey()
                   : transport_->export_memory(buffer.data, static_cast<std::size_t>(buffer.size_bytes)));
    writer.add(buffer.size_bytes);
  }
  RESHARD_TRY(*answers, transport_->allgather(writer.take(), Deadline(options.timeout_us)));
  // A rank whose own arguments are wrong says so in its own words.
  if (!arguments.ok()) return arguments;
  return compare(*answers, mine);
}

Status Binding::map_peers(const std::vector<std::vector<std::byte>>& answers) {
  for (const std::int32_t peer : sources_of(*plan_, transport_->rank())) {
    ByteReader reader(at(answers, peer));
    read_answer(&reader);
    BufferTable table(plan_->src->buffers().size(), nullptr);
    bool all_mapped = true;
    const std::size_t first = mappings_.size();
    for (std::int64_t i = reader.number(); i > 0 && all_mapped; --i) {
      const std::int64_t id = reader.number();
      const MemoryKey key = reader.blob();
      const bool is_empty = reader.number() == 0;
      if (!reader.ok() || id < 0 || id >= static_cast<std::int64_t>(table.size())) {
        return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent malformed memory keys", peer)};
      }
      if (is_empty) continue;
      void* ptr = nullptr;
      if (!key.empty()) {
        RESHARD_TRY(ptr, transport_->map(peer, key));
      }
      all_mapped = ptr != nullptr;
      if (all_mapped) mappings_.push_back({peer, key, ptr});
      at(table, id) = static_cast<std::byte*>(ptr);
    }
    // A peer is read directly or sends everything: half of each would cost both protocols.
    if (all_mapped) {
      memory_.mapped_src.emplace(peer, std::move(table));
      continue;
    }
    for (std::size_t i = first; i < mappings_.size(); ++i) transport_->unmap(peer, mappings_[i].key, mappings_[i].ptr);
    mappings_.resize(first);
  }
  return {};
}

Result<std::shared_ptr<Flight>> Binding::build_flight() {
  RESHARD_TRY(Program program, build_program(*plan_, transport_->rank(), memory_));
  volume_ = {program.bytes_same_rank, program.bytes_mapped, program.bytes_sent,
             program.bytes_received,  program.num_sends(),  program.staging_bytes};
  return std::make_shared<Flight>(std::move(program), memory_.read_by, transport_);
}

std::int64_t Binding::group_at(std::int64_t position) const {
  const auto count = static_cast<std::int64_t>(plan_->groups.size());
  return at(plan_->groups, (position + at(plan_->first_groups, transport_->rank())) % count);
}

Binding::~Binding() {
  for (const Mapping& mapping : mappings_) transport_->unmap(mapping.peer, mapping.key, mapping.ptr);
}

}  // namespace reshard
