// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/late_copier.h"

#include <utility>

namespace reshard::testing {

Status LateCopier::begin(void* stream) {
  work_ = static_cast<Work*>(stream);
  is_open_ = false;
  return {};
}

Result<bool> LateCopier::is_open() {
  if (is_open_ || !coin()) return is_open_;
  if (work_ != nullptr) (*work_)();
  return is_open_ = true;
}

void LateCopier::copy(Launch* launch) {
  if (std::exchange(launch->is_copied, true)) return;
  CopyJob job(launch->batch);
  bool moved = false;
  while (!job.is_done) static_cast<void>(host_.advance(&job, &moved).ok());
}

Status LateCopier::advance(CopyJob* job, bool* moved) {
  if (job->is_done) return {};
  *moved = true;
  if (!is_open_) return {RESHARD_ERR_INTERNAL, "a batch was started before the caller's work was done"};
  if (job->ticket < 0) {
    std::size_t free = 0;
    while (free < launches_.size() && launches_[free].is_used) ++free;
    if (free == launches_.size()) return {RESHARD_ERR_INTERNAL, "more batches under way than there are kinds of jobs"};
    launches_[free] = {true, false, job->batch};
    job->ticket = static_cast<std::int32_t>(free);
  }
  Launch& launch = launches_[static_cast<std::size_t>(job->ticket)];
  if (coin()) copy(&launch);
  if (!launch.is_copied || !coin()) return {};
  launch.is_used = false;
  job->is_done = true;
  return {};
}

bool LateCopier::drain(const Deadline& budget) {
  for (Launch& launch : launches_) {
    if (!launch.is_used) continue;
    if (budget.timeout_us() == 0) return false;
    copy(&launch);
    launch.is_used = false;
  }
  return true;
}

}  // namespace reshard::testing
