// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/descriptor_offers.h"

#include <algorithm>
#include <utility>

#include "src/device/cuda_call.h"
#include "src/device/driver.h"

namespace reshard {

Result<std::unique_ptr<DescriptorOffers>> DescriptorOffers::start() {
  RESHARD_TRY(std::unique_ptr<DescriptorServer> server, DescriptorServer::start());
  return std::unique_ptr<DescriptorOffers>(new DescriptorOffers(std::move(server)));
}

Result<std::int64_t> DescriptorOffers::offer(PageHandle handle) {
  if (const auto found = offers_.find(handle.value()); found != offers_.end()) {
    ++found->second.num_ranges;
    return found->second.number;
  }
  RESHARD_TRY(const Driver* driver, Driver::get());
  int descriptor = -1;
  const CUresult code =
      driver->cuMemExportToShareableHandle(&descriptor, handle.value(), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  if (is_lost(code)) return driver_status("cuMemExportToShareableHandle", code);
  if (code != CUDA_SUCCESS) return std::int64_t{-1};
  const std::int64_t number = server_->offer(OwnedDescriptor(descriptor));
  const CUmemGenericAllocationHandle value = handle.value();
  offers_.emplace(value, Offer{std::move(handle), number, 1});
  return number;
}

void DescriptorOffers::withdraw(std::int64_t number) {
  const auto found =
      std::find_if(offers_.begin(), offers_.end(), [&](const auto& entry) { return entry.second.number == number; });
  if (found == offers_.end() || --found->second.num_ranges > 0) return;
  server_->withdraw(number);
  offers_.erase(found);
}

}  // namespace reshard
