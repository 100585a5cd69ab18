// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/progress.h"

#include <fmt/format.h>
#include <unistd.h>

namespace reshard::perf {
namespace {

constexpr int kBarColumns = 30;
constexpr const char* kEraseLine = "\r\033[K";

}  // namespace

Progress::Progress(int num_steps, bool is_shown)
    : num_steps_(num_steps), is_shown_(is_shown && isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (is_shown_) fmt::print(stderr, "{}", kEraseLine);
}

void Progress::step(const std::string& label) {
  if (!is_shown_) return;
  const int filled = kBarColumns * next_step_ / num_steps_;
  ++next_step_;
  // The bar shows steps that are over: the one that is named has only begun.
  fmt::print(stderr, "{}[{:#<{}}{:.<{}}] {}", kEraseLine, "", filled, "", kBarColumns - filled, label);
  std::fflush(stderr);
}

}  // namespace reshard::perf
