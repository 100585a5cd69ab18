// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A kernel of NCCL in a stream: it begins when the stream gets there and ends when its peers' have come to the same
// place.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/doubles/nccl/comm.h"
#include "tests/doubles/nccl/transfer.h"

namespace nccl_double {

/// What it does: on each channel batch after batch, the transfers of a batch at the same time.
struct KernelWork {
  std::vector<std::vector<std::vector<Transfer>>> channels;
  std::function<void()> at_end;  // null: nothing
  std::string what;              // "kernel 2 of 3 of a group", for reports
};

class Kernel {
 public:
  Kernel(std::shared_ptr<Comm> comm, KernelWork work);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  /// Of cuda_double::RunWork.
  bool run();

 private:
  bool start();
  bool may_start() const;
  bool check_memory() const;
  bool step_all();
  void step(Transfer* transfer, bool* has_moved);
  void watch();
  std::string report() const;
  bool end();

  std::shared_ptr<Comm> comm_;
  KernelWork work_;
  const std::int64_t ticket_;         // in the order in which they were queued
  std::vector<std::size_t> current_;  // batch of each channel
  bool has_started_ = false;
  bool is_stuck_ = false;  // it was told to break, or its ends do not match
  std::int64_t seen_steps_ = -1;
  std::int64_t num_idle_ = 0;  // times in a row that it could not go on and nobody else did
};

}  // namespace nccl_double
