// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "src/base/status.h"
#include "src/device/descriptor_server.h"
#include "src/device/page_memory.h"

namespace reshard {

/// The physical pieces of this process that peers may ask for, each with one descriptor however many ranges of it are
/// exported: a process may not have many of them open. Only for files of this room that are built with CUDA.
class DescriptorOffers {
 public:
  static Result<std::unique_ptr<DescriptorOffers>> start();

  /// The number of the piece's descriptor, which is made on the first call; -1 when the driver gives none.
  /// An error only when CUDA is in disorder.
  Result<std::int64_t> offer(PageHandle handle);

  /// Takes back one offer of the number.
  void withdraw(std::int64_t number);

  const std::string& server_name() const { return server_->name(); }

 private:
  explicit DescriptorOffers(std::unique_ptr<DescriptorServer> server) : server_(std::move(server)) {}

  struct Offer {
    PageHandle handle;  // held, so that its value cannot come to mean another piece
    std::int64_t number;
    std::int64_t num_ranges;
  };
  std::unique_ptr<DescriptorServer> server_;
  std::map<CUmemGenericAllocationHandle, Offer> offers_;
};

}  // namespace reshard
