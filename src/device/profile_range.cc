// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/profile_range.h"

#include <nvtx3/nvToolsExt.h>

namespace reshard {
namespace {

nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t handle = nvtxDomainCreateA("reshard");
  return handle;
}

}  // namespace

ProfileRange::ProfileRange(const char* name) {
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  (void)nvtxDomainRangePushEx(domain(), &attributes);
}

ProfileRange::~ProfileRange() {
  (void)nvtxDomainRangePop(domain());
}

}  // namespace reshard
