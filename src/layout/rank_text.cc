// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a person asks a layout for when a weight is wrong: everything that one rank holds, by buffer and in the order of
// addresses, so that gaps and neighbours are seen.
#include "src/layout/rank_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "src/layout/placed.h"

namespace reshard {
namespace {

struct Line {
  std::int64_t buffer = 0;
  ByteSpan span;
  Block block;
};

const char* kind_text(BlockKind kind) {
  switch (kind) {
    case BlockKind::kData:
      return "";
    case BlockKind::kZero:
      return "zero ";
    case BlockKind::kUntouched:
      return "untouched ";
  }
  return "";
}

std::string count_of(std::int64_t count, const char* thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

void append_line(const ModelLayout& layout, const Line& line, std::string* text) {
  const Tensor& tensor = at(layout.tensors(), line.block.tensor);
  const auto out = std::back_inserter(*text);
  fmt::format_to(out, "  [{}, {}) tensor {} \"{}\" {} {}{}", line.span.begin, line.span.end, line.block.tensor,
                 tensor.name, name(tensor.dtype), kind_text(line.block.kind), to_string(line.block.box));
  if (line.block.box.num_dims > 0) *text += ", strides";
  for (int d = 0; d < line.block.box.num_dims; ++d) fmt::format_to(out, " {}", line.block.strides_bytes[d]);
  const Scales& scales = layout.scales(line.block.tensor);
  if (scales.tensor >= 0) {
    fmt::format_to(out, ", scales {} in \"{}\"", name(scales.kind), at(layout.tensors(), scales.tensor).name);
  }
  *text += '\n';
}

}  // namespace

std::string rank_text(const ModelLayout& layout, std::int32_t rank) {
  std::vector<Line> lines;
  std::int64_t num_tensors = 0;
  for (std::int64_t t = 0; t < std::ssize(layout.tensors()); ++t) {
    const std::int64_t element_bytes = size_bytes(at(layout.tensors(), t).dtype);
    const std::vector<Block> blocks = layout.blocks(rank, t);
    num_tensors += blocks.empty() ? 0 : 1;
    for (const Block& block : blocks) lines.push_back({block.buffer, byte_span(block, element_bytes), block});
  }
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return std::pair{a.buffer, a.span.begin} < std::pair{b.buffer, b.span.begin};
  });
  const std::vector<std::int64_t> buffers = layout.buffers_of(rank);
  std::int64_t num_bytes = 0;
  for (const std::int64_t buffer : buffers) num_bytes += layout.buffer_size_bytes(rank, buffer);
  std::string text = fmt::format("rank {} of {}: {} of {}, {} of {}\n", rank, layout.num_ranks(),
                                 count_of(std::ssize(buffers), "buffer"), count_of(num_bytes, "byte"),
                                 count_of(std::ssize(lines), "block"), count_of(num_tensors, "tensor"));
  std::size_t next = 0;
  for (const std::int64_t buffer : buffers) {
    text += fmt::format("buffer {} \"{}\", {}\n", buffer, at(layout.buffers(), buffer).name,
                        count_of(layout.buffer_size_bytes(rank, buffer), "byte"));
    for (; next < lines.size() && lines[next].buffer == buffer; ++next) append_line(layout, lines[next], &text);
  }
  return text;
}

}  // namespace reshard
