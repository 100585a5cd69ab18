// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stream_commands.h"

#include <algorithm>

#include "src/base/at.h"

namespace reshard {
namespace {

std::size_t index_of(StreamKind stream) {
  return static_cast<std::size_t>(stream);
}

}  // namespace

bool StreamCommandList::is_known(const Known& known, StreamPoint point) const {
  return point < 0 || known[index_of(at(commands_, point).stream)] >= point;
}

void StreamCommandList::join(Known* known, const Known& other) {
  for (std::size_t i = 0; i < kNumStreams; ++i) (*known)[i] = std::max((*known)[i], other[i]);
}

StreamPoint StreamCommandList::append(StreamCommand command) {
  const auto point = static_cast<StreamPoint>(commands_.size());
  const StreamPoint before = last_[index_of(command.stream)];
  Known known = before >= 0 ? at(known_, before) : nothing();
  known[index_of(command.stream)] = point;
  commands_.push_back(command);
  known_.push_back(known);
  last_[index_of(command.stream)] = point;
  return point;
}

std::int32_t StreamCommandList::event_at(StreamPoint point) {
  StreamCommand& command = at(commands_, point);
  if (command.event < 0) command.event = num_events_++;
  return command.event;
}

void StreamCommandList::wait(StreamKind stream, StreamPoint point) {
  const StreamPoint waited = append({stream, StreamAction::kWait, event_at(point), -1});
  join(&at(known_, waited), at(known_, point));
}

/// The latest points first: what they bring with them, the earlier ones need not be waited for.
StreamPoint StreamCommandList::add(StreamKind stream, StreamAction action, std::int32_t index,
                                   std::span<const StreamPoint> after) {
  std::vector<StreamPoint> points(after.begin(), after.end());
  std::sort(points.begin(), points.end(), std::greater<>());
  for (const StreamPoint point : points) {
    const StreamPoint last = last_[index_of(stream)];
    const bool is_known_already = last >= 0 ? is_known(at(known_, last), point) : point < 0;
    if (!is_known_already) wait(stream, point);
  }
  return append({stream, action, index, -1});
}

}  // namespace reshard
